// A handle in the child of a fork is refused there, also where threads of the library have run before, and the
// parent goes on with it.
#include "expect.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *folder;
static cairn_store *store;
static void *mapped;

static void useBefore(void) {
    EXPECT_ANSWER(cairn_verify(store, NULL, 0, NULL, &json), "{\"ok\":true,");
    enum { size = 16 << 20 };
    void *from, *to;
    EXPECT_OK(cairn_map(size, &from));
    EXPECT_OK(cairn_map(size, &to));
    const void *sources[] = {from};
    const size_t bytes[] = {size};
    EXPECT_OK(cairn_copy(1, &to, sources, bytes, 4));
    cairn_unmap(from, size);
    cairn_unmap(to, size);
}

static void *unmapNothing(void *unused) {
    static char nothing;
    for (int i = 0; i < 200000; i++) cairn_unmap(&nothing, 1);
    return unused;
}

// Each waits for the other now and then, also the thread that was there before the fork.
static void withAnotherThread(void) {
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, unmapNothing, NULL) == 0);
    unmapNothing(NULL);
    EXPECT(pthread_join(thread, NULL) == 0);
}

static void inChild(void) {
    char *json = (char *)store;
    EXPECT_FAILURE(cairn_list(store, NULL, &json), CAIRN_USAGE, "usage", "open the store in the child");
    EXPECT(json == NULL);
    EXPECT_FAILURE(cairn_verify(store, NULL, 0, NULL, &json), CAIRN_USAGE, "usage", "open the store in the child");
    EXPECT_FAILURE(cairn_pin(store, "1", "child", &json), CAIRN_USAGE, "usage", "open the store in the child");
    cairn_close(store);

    // What was mapped before is not here; what is mapped now stays, even where it lies at the same address.
    void *own;
    EXPECT_OK(cairn_map(1 << 20, &own));
    memset(own, 1, 1 << 20);
    if (own != mapped) cairn_unmap(mapped, 1 << 20);
    EXPECT(((char *)own)[1000] == 1);
    withAnotherThread();

    cairn_store *opened;
    EXPECT_OK(cairn_open(in(folder, "store"), NULL, &opened));
    EXPECT_ANSWER(cairn_pin(opened, "1", "child", &json), "\"name\":\"child\"");
    EXPECT_ANSWER(cairn_verify(opened, NULL, 0, NULL, &json), "{\"ok\":true,");
    cairn_close(opened);
}

int main(int count, char **arguments) {
    folder = count > 1 ? arguments[1] : ".";
    EXPECT_OK(cairn_open(in(folder, "store"), "{\"jobs\": 4}", &store));
    EXPECT_OK(cairn_map(1 << 20, &mapped));
    useBefore();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        inChild();
        fflush(stdout);
        // As `exit` would: with what runs at the end of a process.
        exit(failures != 0);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    EXPECT_ANSWER(cairn_pins(store, &json), "\"name\":\"child\"");
    memset(mapped, 2, 1 << 20);
    cairn_unmap(mapped, 1 << 20);
    cairn_close(store);
    return failures != 0;
}
