// Arguments that make no sense: a sentence each, never a crash, and the store is as it was.
#include "expect.h"
#include <pthread.h>

#define EXPECT_USAGE(call, words) EXPECT_FAILURE(call, CAIRN_USAGE, "usage", words)

static const char *const notUTF8 = "m\xe4in";

static void nothing(cairn_store *store) {
    char *json;
    cairn_store *other;
    EXPECT_USAGE(cairn_open(NULL, NULL, &other), "path is NULL");
    EXPECT_USAGE(cairn_open("", NULL, &other), "path is empty");
    EXPECT_USAGE(cairn_open("x", NULL, NULL), "store is NULL");
    EXPECT_USAGE(cairn_describe(NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_describe(store, NULL), "json is NULL");
    EXPECT_USAGE(cairn_list(NULL, NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_show(store, NULL, &json), "reference is NULL");
    EXPECT_USAGE(cairn_diff(store, NULL, "1", NULL, &json), "before is NULL");
    EXPECT_USAGE(cairn_diff(store, "1", NULL, NULL, &json), "after is NULL");
    EXPECT_USAGE(cairn_stats(NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_pin(store, NULL, "a", &json), "reference is NULL");
    EXPECT_USAGE(cairn_pin(store, "1", NULL, &json), "name is NULL");
    EXPECT_USAGE(cairn_pin(store, "1", "a", NULL), "json is NULL");
    EXPECT_USAGE(cairn_unpin(store, NULL, &json), "name is NULL");
    EXPECT_USAGE(cairn_pins(NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_annotate(store, NULL, NULL, "x", &json), "reference is NULL");
    EXPECT_USAGE(cairn_rewind(store, NULL, &json), "reference is NULL");
    EXPECT_USAGE(cairn_delete(store, NULL, &json), "references is NULL");
    EXPECT_USAGE(cairn_policy(NULL, NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_set_policy(NULL, NULL, NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_gc(NULL, 0, NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_gc(store, 0, NULL, NULL), "json is NULL");
    EXPECT_USAGE(cairn_verify(NULL, NULL, 0, NULL, &json), "store is NULL");
    EXPECT_USAGE(cairn_restore(store, "1", NULL, NULL, NULL, &json), "destination is NULL");
    EXPECT_USAGE(cairn_export(store, NULL, "x", NULL, NULL, &json), "reference is NULL");
    EXPECT_USAGE(cairn_map(1, NULL), "memory is NULL");
    EXPECT_USAGE(cairn_copy(1, NULL, NULL, NULL, 0), "targets is NULL");
    cairn_close(NULL);
    cairn_free(NULL);
    cairn_unmap(NULL, 1);
}

static void texts(cairn_store *store, const char *folder) {
    char *json;
    cairn_store *other;
    EXPECT_USAGE(cairn_list(store, notUTF8, &json), "run is not UTF-8");
    EXPECT_USAGE(cairn_show(store, notUTF8, &json), "reference is not UTF-8");
    EXPECT_USAGE(cairn_pin(store, "1", notUTF8, &json), "name is not UTF-8");
    EXPECT_USAGE(cairn_annotate(store, "1", NULL, notUTF8, &json), "note is not UTF-8");
    EXPECT_USAGE(cairn_annotate(store, "1", "{\"\xe4\": 1}", NULL, &json), "metrics is not JSON");
    EXPECT_USAGE(cairn_delete(store, "main@1", &json), "references is not JSON");
    EXPECT_USAGE(cairn_delete(store, "\"1\"", &json), "not a JSON array of texts");
    EXPECT_USAGE(cairn_delete(store, "[1]", &json), "not a JSON array of texts");
    EXPECT_USAGE(cairn_verify(store, "{}", 0, NULL, &json), "not a JSON array of texts");
    EXPECT_USAGE(cairn_set_policy(store, NULL, "[]", &json), "not an object");
    EXPECT_USAGE(cairn_set_policy(store, NULL, "{\"maxSize\": \"5 apples\"}", &json), "5 apples");
    EXPECT_USAGE(cairn_restore(store, "1", in(folder, "x"), "{\"path\": \"a\\u0000b\"}", NULL, &json), "zero bytes");
    EXPECT_USAGE(cairn_restore(store, "1", in(folder, "x"), "{\"force\": 1}", NULL, &json), "must be true or false");
    EXPECT_USAGE(cairn_restore(store, "1", in(folder, "x"), "{\"f\": true}", NULL, &json), "no option \"f\" here");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "[]", &other), "options is JSON, but no object");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "{create: true}", &other), "options is not JSON");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "{\"create\": true, \"chunkSize\": 5000}", &other), "power of two");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "{\"jobs\": 0}", &other), "\"jobs\" must be a whole number");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "{\"memory\": 1000}", &other), "from 67108864");
    EXPECT_USAGE(cairn_open(in(folder, "x"), "{\"memory\": 1e99}", &other), "from 67108864");
}

static void *failInAnotherThread(void *store) {
    char *json;
    EXPECT(strcmp(cairn_error_message(), "") == 0);
    EXPECT_USAGE(cairn_show(store, NULL, &json), "reference is NULL");
    return NULL;
}

// Each thread has an error of its own, which stays while calls go well.
static void threads(cairn_store *store) {
    char *json;
    EXPECT_USAGE(cairn_unpin(store, NULL, &json), "name is NULL");
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, failInAnotherThread, store) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT_ANSWER(cairn_pins(store, &json), "[]");
    EXPECT(strstr(cairn_error_message(), "name is NULL") != NULL);
}

int main(int count, char **arguments) {
    const char *folder = count > 1 ? arguments[1] : ".";
    cairn_store *store;
    EXPECT_OK(cairn_open(in(folder, "store"), NULL, &store));
    if (store == NULL) return 1;
    char *before, *after;
    EXPECT_OK(cairn_list(store, NULL, &before));
    nothing(store);
    texts(store, folder);
    threads(store);
    EXPECT_OK(cairn_list(store, NULL, &after));
    EXPECT(strcmp(before, after) == 0);
    cairn_free(before);
    cairn_free(after);
    cairn_close(store);
    return failures != 0;
}
