// Making and opening a store, and everything that looks at one or changes it.
// `store` has main@1, main@2 and main@3 in it.
#include "expect.h"
#include <sys/stat.h>
#include <unistd.h>

static void make(const char *folder) {
    cairn_store *store = (cairn_store *)folder;
    EXPECT_FAILURE(cairn_open(in(folder, "new"), NULL, &store), CAIRN_FAILED, "not-a-store", "there is no store at");
    EXPECT(store == NULL);
    EXPECT(strcmp(cairn_error_path(), in(folder, "new")) == 0);

    const char *options = "{\"create\": true, \"chunkSize\": 65536, \"jobs\": 2, \"memory\": null}";
    EXPECT_OK(cairn_open(in(folder, "new"), options, &store));
    EXPECT_ANSWER(cairn_describe(store, &json), "\"chunkSize\":65536,\"recoveryFactor\":2,\"recoveryRecords\":16}");
    EXPECT_ANSWER(cairn_list(store, NULL, &json), "[]");

    // Two at once, and what a store is made with means nothing for one that is there.
    cairn_store *again;
    EXPECT_OK(cairn_open(in(folder, "new"), "{\"create\": true, \"chunkSize\": 4096}", &again));
    EXPECT_ANSWER(cairn_describe(again, &json), "\"chunkSize\":65536");
    cairn_close(again);
    cairn_close(store);

    // A name that is not UTF-8.
    EXPECT_OK(cairn_open(in(folder, "n\xffw"), "{\"create\": true}", &store));
    cairn_close(store);
    EXPECT(access(in(folder, "n\xffw/cairn.json"), R_OK) == 0);
    EXPECT_FAILURE(
        cairn_open(in(folder, "source"), "{\"create\": true}", &store), CAIRN_FAILED, "exists", "not an empty folder");
}

static void pins(cairn_store *store) {
    EXPECT_ANSWER(cairn_pin(store, "2", "gold", &json), "{\"name\":\"gold\",\"run\":\"main\",\"step\":2,");
    EXPECT_ANSWER(cairn_pin(store, "main@2", "gold", &json), "\"step\":2");
    char *json = (char *)store;
    EXPECT_FAILURE(
        cairn_pin(store, "3", "gold", &json), CAIRN_FAILED, "exists", "the pin gold is on another iteration");
    EXPECT(json == NULL);
    EXPECT_FAILURE(cairn_pin(store, "3", "latest", &json), CAIRN_USAGE, "usage", "latest");
    EXPECT_FAILURE(cairn_pin(store, "99", "none", &json), CAIRN_USAGE, "not-found", "99");
    EXPECT_ANSWER(cairn_pins(store, &json), "[{\"name\":\"gold\"");
    EXPECT_FAILURE(cairn_delete(store, "[\"1\", \"2\"]", &json), CAIRN_FAILED, "protected", "pinned as gold");
    EXPECT_ANSWER(cairn_list(store, "main", &json), "\"step\":1");
    EXPECT_ANSWER(cairn_unpin(store, "gold", &json), "\"step\":2");
    EXPECT_FAILURE(cairn_unpin(store, "gold", &json), CAIRN_USAGE, "not-found", "gold");
    EXPECT_ANSWER(cairn_pins(store, &json), "[]");
}

static void notes(cairn_store *store) {
    EXPECT_ANSWER(
        cairn_annotate(store, "2", "{\"loss\": 0.25, \"bad\": NaN}", "so so", &json),
        "\"bad\":null,\"loss\":0.25");
    EXPECT_ANSWER(cairn_show(store, "best:loss", &json), "\"notes\":[\"so so\"]");
    EXPECT_ANSWER(cairn_show(store, "2", &json), "\"name\":\"a\",\"dtype\":\"F32\",\"shape\":[2]");
    char *json;
    EXPECT_FAILURE(cairn_annotate(store, "2", NULL, NULL, &json), CAIRN_USAGE, "usage", "nothing to add");
    EXPECT_FAILURE(cairn_annotate(store, "2", "{\"loss\": \"low\"}", NULL, &json), CAIRN_USAGE, "usage", "numbers");
}

static void policies(cairn_store *store) {
    EXPECT_ANSWER(cairn_policy(store, NULL, &json), "[]");
    EXPECT_ANSWER(
        cairn_set_policy(store, NULL, "{\"keepLast\": 1, \"keepBest\": [\"1:loss:min\"], \"maxSize\": \"5GB\"}", &json),
        "{\"run\":\"main\",\"policy\":{\"keepLast\":1,"
        "\"keepBest\":[{\"count\":1,\"metric\":\"loss\",\"direction\":\"min\"}],\"maxSize\":5000000000}}");
    EXPECT_ANSWER(cairn_policy(store, "main", &json), "{\"run\":\"main\",\"policy\":{\"keepLast\":1,");
    char *json;
    EXPECT_FAILURE(cairn_policy(store, "other", &json), CAIRN_USAGE, "not-found", "other");
    EXPECT_FAILURE(cairn_set_policy(store, "other", NULL, &json), CAIRN_USAGE, "not-found", "other");
    EXPECT_FAILURE(cairn_set_policy(store, "main", "{\"keepLast\": 0}", &json), CAIRN_USAGE, "usage", "keeps nothing");
    EXPECT_FAILURE(cairn_set_policy(store, "main", "{\"keepAll\": 1}", &json), CAIRN_USAGE, "usage", "keepAll");
    EXPECT_ANSWER(cairn_set_policy(store, "later", "{\"keepWithin\": \"36h\"}", &json), "{\"keepWithin\":\"36h\"}");
    EXPECT_ANSWER(cairn_set_policy(store, "later", "{}", &json), "\"policy\":null");
}

static void space(cairn_store *store) {
    EXPECT_ANSWER(cairn_gc(store, 1, NULL, &json), "{\"deletedIterations\":[{\"run\":\"main\",\"step\":1,");
    EXPECT_ANSWER(cairn_list(store, NULL, &json), "\"step\":1");
    cairn_control control = {.cancel = 1, .done_bytes = 7, .total_bytes = 7};
    char *json;
    EXPECT_FAILURE(cairn_gc(store, 0, &control, &json), CAIRN_INTERRUPTED, "interrupted", "interrupted");
    EXPECT(control.done_bytes == 0 && control.total_bytes == 0);
    EXPECT_ANSWER(cairn_list(store, NULL, &json), "\"step\":1");
    control.cancel = 0;
    EXPECT_ANSWER(cairn_gc(store, 0, &control, &json), "\"dryRun\":false");
    EXPECT_FAILURE(cairn_show(store, "1", &json), CAIRN_USAGE, "not-found", "1");
    // main@2 has the best loss.
    EXPECT_ANSWER(cairn_list(store, NULL, &json), "[{\"run\":\"main\",\"step\":2,");
    EXPECT_ANSWER(cairn_rewind(store, "2", &json), "{\"superseded\":[{\"run\":\"main\",\"step\":3,");
    EXPECT_ANSWER(cairn_show(store, "latest", &json), "\"step\":2");
    EXPECT_ANSWER(cairn_delete(store, "[\"3\"]", &json), "\"step\":3");
    EXPECT_ANSWER(cairn_stats(store, &json), "\"iterations\":1,");
}

static void files(cairn_store *store, const char *folder) {
    EXPECT_ANSWER(cairn_verify(store, NULL, 0, NULL, &json), "{\"ok\":true,");
    EXPECT_ANSWER(cairn_verify(store, "[\"latest\"]", 1, NULL, &json), "\"quick\":true,\"iterations\":1,");
    EXPECT_ANSWER(cairn_restore(store, "2", in(folder, "b\xff\xff"), NULL, NULL, &json), "\"step\":2");
    EXPECT(access(in(folder, "b\xff\xff/model.safetensors"), R_OK) == 0);
    char *json;
    EXPECT_FAILURE(
        cairn_restore(store, "2", in(folder, "b\xff\xff"), "{}", NULL, &json), CAIRN_FAILED, "exists", "exists");
    EXPECT_ANSWER(
        cairn_restore(store, "2", in(folder, "b\xff\xff"), "{\"force\": true}", NULL, &json), "\"files\":1,");
    EXPECT_ANSWER(
        cairn_export(store, "2", in(folder, "c.safetensors"), "{\"layout\": \"safetensors\"}", NULL, &json),
        "\"step\":2");
    EXPECT(access(in(folder, "c.safetensors"), R_OK) == 0);
    EXPECT_FAILURE(
        cairn_export(store, "2", in(folder, "d"), "{\"layout\": \"hd\"}", NULL, &json), CAIRN_USAGE, "usage", "hd");
    EXPECT_FAILURE(cairn_export(store, "2", in(folder, "d"), NULL, NULL, &json), CAIRN_USAGE, "usage", "layout");
}

int main(int count, char **arguments) {
    const char *folder = count > 1 ? arguments[1] : ".";
    EXPECT(cairn_interface_version() == CAIRN_INTERFACE_VERSION);
    EXPECT(strlen(cairn_version()) >= 5);
    EXPECT(strcmp(cairn_error_message(), "") == 0 && strcmp(cairn_error_code(), "") == 0 && cairn_error_path() == NULL);
    make(folder);
    cairn_store *store;
    EXPECT_OK(cairn_open(in(folder, "store"), NULL, &store));
    if (store == NULL) return 1;
    pins(store);
    notes(store);
    policies(store);
    space(store);
    files(store, folder);
    cairn_close(store);
    return failures != 0;
}
