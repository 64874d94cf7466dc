// Processes that make one store at once, as the ranks of a training do: one makes it, and all of them have it.
#include "expect.h"
#include <sys/wait.h>
#include <unistd.h>

enum { rounds = 10, ranks = 6 };

// In a child: the description of the store goes to the parent.
static void open_and_tell(const char *path, int start, int answer) {
    char go;
    EXPECT(read(start, &go, 1) == 0);
    cairn_store *store;
    EXPECT_OK(cairn_open(path, "{\"create\": true}", &store));
    if (store != NULL) {
        char *json = NULL;
        EXPECT_OK(cairn_describe(store, &json));
        EXPECT(write(answer, json, strlen(json)) == (ssize_t)strlen(json));
        cairn_close(store);
    }
    fflush(stdout);
    _exit(failures != 0);
}

static void race(const char *path) {
    int start[2], answers[ranks][2];
    EXPECT(pipe(start) == 0);
    for (int rank = 0; rank < ranks; rank++) {
        EXPECT(pipe(answers[rank]) == 0);
        fflush(stdout);
        if (fork() == 0) {
            close(start[1]);
            open_and_tell(path, start[0], answers[rank][1]);
        }
        close(answers[rank][1]);
    }
    close(start[0]);
    // Now all of them read the end of the pipe.
    close(start[1]);
    char first[1000] = "";
    for (int rank = 0; rank < ranks; rank++) {
        char text[1000] = "";
        EXPECT(read(answers[rank][0], text, sizeof text - 1) > 0);
        close(answers[rank][0]);
        if (rank == 0) strcpy(first, text);
        EXPECT(strcmp(text, first) == 0);
    }
    int status;
    while (wait(&status) > 0) EXPECT(status == 0);
}

int main(int count, char **arguments) {
    for (int round = 0; round < rounds; round++) {
        char name[20];
        snprintf(name, sizeof name, "race-%d", round);
        race(in(count > 1 ? arguments[1] : ".", name));
    }
    return failures != 0;
}
