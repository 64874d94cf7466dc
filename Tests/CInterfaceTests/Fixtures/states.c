// Saving from memory, and reading into it.
#include "expect.h"

#include <sys/wait.h>
#include <unistd.h>

enum { rows = 300, columns = 500 };
static float weight[rows][columns], before[rows][columns];
static const uint64_t shape[] = {rows, columns};

static cairn_save *begin(cairn_store *store, const char *options, const void *earlier) {
    cairn_save *save;
    EXPECT_OK(cairn_save_begin(store, options, &save));
    EXPECT_OK(cairn_save_add_tensor(
        save, "model.safetensors", "weight", "F32", shape, 2, weight, sizeof weight, earlier));
    EXPECT_OK(cairn_save_add_file(save, "note.txt", "hello", 5));
    return save;
}

static void expectSame(cairn_store *store, const char *reference, float (*expected)[columns]) {
    static float target[rows][columns];
    float slice[2][3];
    char note[5];
    uint64_t start[] = {7, 11}, stop[] = {9, 14};
    cairn_iteration *iteration;
    EXPECT_OK(cairn_iteration_open(store, reference, &iteration));
    cairn_read reads[] = {
        {.name = "weight", .target = target, .bytes = sizeof target},
        {.file = "model.safetensors", .name = "weight", .start = start, .stop = stop, .axes = 2, .target = slice,
         .bytes = sizeof slice},
        {.file = "note.txt", .target = note, .bytes = sizeof note},
    };
    EXPECT_OK(cairn_iteration_read(iteration, reads, 3, NULL));
    EXPECT(memcmp(target, expected, sizeof target) == 0);
    EXPECT(memcmp(slice[1], &expected[8][11], sizeof slice[1]) == 0);
    EXPECT(memcmp(note, "hello", 5) == 0);
    reads[1].bytes--;
    EXPECT_FAILURE(cairn_iteration_read(iteration, reads, 3, NULL), CAIRN_USAGE, "usage", "weight");
    EXPECT_ANSWER(cairn_iteration_describe(iteration, &json), "\"stored\":[{\"name\":\"weight\"");
    // That is no state of the Python package.
    EXPECT_ANSWER(cairn_iteration_tensor(iteration, "weight", &json), "null");
    cairn_iteration_close(iteration);
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    cairn_store *store;
    cairn_save *save;
    char id[65] = "";
    EXPECT_OK(cairn_open(in(arguments[1], "states"), "{\"create\": true}", &store));
    for (int i = 0; i < rows * columns; i++) weight[0][i] = i * 0.25f;

    save = begin(store, "{\"step\": 1, \"metrics\": {\"loss\": 2}, \"metadata\": {\"a\": [1]}}", NULL);
    char *json = NULL;
    EXPECT_OK(cairn_save_commit(save, NULL, &json));
    EXPECT(json && strstr(json, "\"run\":\"main\",\"step\":1"));
    if (json) memcpy(id, strstr(json, "\"id\":\"") + 6, 64);
    cairn_free(json);
    EXPECT_FAILURE(cairn_save_add_file(save, "late", "", 0), CAIRN_USAGE, "usage", "has ended");
    cairn_save_close(save);
    expectSame(store, "best:loss", weight);

    // What is known from memory is not written again; what was taken may change.
    memcpy(before, weight, sizeof weight);
    weight[200][0] = -1;
    char options[160];
    snprintf(options, sizeof options, "{\"step\": 2, \"earlier\": \"%s\", \"readsBases\": false}", id);
    save = begin(store, options, before);
    cairn_control control = {0};
    EXPECT_OK(cairn_save_take(save, &control));
    weight[200][0] = 7;
    EXPECT_ANSWER(cairn_save_commit(save, &control, &json), "\"newChunks\":1,");
    cairn_save_close(save);
    weight[200][0] = -1;
    expectSame(store, "latest", weight);
    expectSame(store, "1", before);

    // Given up, cancelled, refused.
    cairn_save_close(begin(store, "{\"step\": 3}", NULL));
    weight[0][0] = 3;
    save = begin(store, "{\"step\": 3}", NULL);
    control.cancel = 1;
    json = NULL;
    EXPECT(cairn_save_commit(save, &control, &json) == CAIRN_INTERRUPTED && json == NULL);
    cairn_save_close(save);
    save = begin(store, "{\"step\": 2}", NULL);
    EXPECT_FAILURE(cairn_save_commit(save, NULL, &json), CAIRN_FAILED, "exists", "other content");
    cairn_save_close(save);
    EXPECT_FAILURE(cairn_save_begin(store, "{}", &save), CAIRN_USAGE, "usage", "step");
    EXPECT_FAILURE(cairn_save_begin(store, "{\"step\": 1, \"pace\": 2}", &save), CAIRN_USAGE, "usage", "pace");
    EXPECT_FAILURE(cairn_save_begin(store, "{\"step\": 1, \"metadata\": \"a\"}", &save), CAIRN_USAGE, "usage", "\"metadata\" must be an object");
    EXPECT_FAILURE(cairn_save_begin(store, "{\"step\": 1, \"readsBases\": \"a\"}", &save), CAIRN_USAGE, "usage", "true or false");
    EXPECT(save == NULL);
    EXPECT_ANSWER(cairn_list(store, NULL, &json), "\"step\":2");

    // Two ranks make one iteration.
    for (int rank = 1; rank >= 0; rank--) {
        char file[40];
        snprintf(options, sizeof options, "{\"step\": 9, \"rank\": %d, \"worldSize\": 2, \"attempt\": \"a\"}", rank);
        snprintf(file, sizeof file, "rank_%05d/model.safetensors", rank);
        EXPECT_OK(cairn_save_begin(store, options, &save));
        EXPECT_OK(cairn_save_add_tensor(save, file, "weight", "F32", shape, 2, weight, sizeof weight, NULL));
        char *json = NULL;
        EXPECT_OK(cairn_save_commit(save, NULL, &json));
        EXPECT(json && (strstr(json, "\"isPart\":true") != NULL) == (rank == 1));
        cairn_free(json);
        cairn_save_close(save);
    }
    EXPECT_ANSWER(cairn_show(store, "9", &json), "rank_00001/model.safetensors");

    // In the child of a fork a save is of no use, and goes on in the parent.
    save = begin(store, "{\"step\": 10}", NULL);
    fflush(stdout);
    if (fork() == 0) {
        failures = 0;
        EXPECT_FAILURE(cairn_save_take(save, NULL), CAIRN_USAGE, "usage", "fork");
        cairn_save_close(save);
        fflush(stdout);
        _exit(failures);
    }
    int status;
    wait(&status);
    EXPECT(status == 0);
    EXPECT_ANSWER(cairn_save_commit(save, NULL, &json), "\"step\":10");
    cairn_save_close(save);
    cairn_close(store);
    return failures != 0;
}
