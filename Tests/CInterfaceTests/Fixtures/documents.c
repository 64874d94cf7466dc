// Prints a document a line, for the test to compare with what the command prints.
#include "expect.h"

#define PRINT(call) \
    do { \
        char *json; \
        EXPECT_OK(call); \
        printf("%s\n", json ? json : ""); \
        cairn_free(json); \
    } while (0)

int main(int count, char **arguments) {
    cairn_store *store;
    EXPECT_OK(cairn_open(in(count > 1 ? arguments[1] : ".", "store"), NULL, &store));
    if (store == NULL) return 1;
    PRINT(cairn_list(store, NULL, &json));
    PRINT(cairn_list(store, "main", &json));
    PRINT(cairn_show(store, "latest", &json));
    PRINT(cairn_diff(store, "1", "3", NULL, &json));
    PRINT(cairn_stats(store, &json));
    PRINT(cairn_pins(store, &json));
    PRINT(cairn_policy(store, "main", &json));
    PRINT(cairn_policy(store, NULL, &json));
    cairn_close(store);
    return failures != 0;
}
