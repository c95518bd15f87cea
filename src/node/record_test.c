/* record_test.c - what a peer says of itself: taken, cleaned or refused, member by member. */
#include "node/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ME "0123456789abcdef"

static const char whole[] =
    "{'name':'x','version':'0.1.0','api':'127.0.0.1:1','devices':[{'device_id':'cpu:0',"
    "'device_reason':null,'name':'CPU','vendor':'V','driver_version':'1','compute_units':2,"
    "'memory_total_bytes':1000,'memory_available_bytes':10,'temperature_celsius':null}],"
    "'models':[{'id':'tiny'}],'instances':{'a':{'owner':'" ME "','model_id':'tiny',"
    "'state':'running'}},'downloads':{},'newer':[1]}";

/* JSON with ' for ", and of it the member at path: of the record, or of its first device. */
static json_t *record(void) {
    char text[sizeof whole];
    for (size_t i = 0; i < sizeof whole; i++) text[i] = whole[i] == '\'' ? '"' : whole[i];
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

static json_t *device(const json_t *r) { return json_array_get(json_object_get(r, "devices"), 0); }

static void what_is_right_is_kept_and_the_name_is_the_proven_one(void **ud) {
    (void)ud;
    json_t *r = record();
    assert_int_equal(exo_record_check(r, ME, "laptop", NULL), EXO_OK);
    assert_string_equal(json_string_value(json_object_get(r, "name")), "laptop");
    assert_int_equal(json_object_size(json_object_get(r, "instances")), 1);
    assert_non_null(json_object_get(r, "newer"));
    json_decref(r);
    r = json_object(); /* an older node says less */
    assert_int_equal(exo_record_check(r, ME, "laptop", NULL), EXO_OK);
    json_decref(r);
}

static void refuses(json_t *r_take, const char *part) {
    exo_error err = {0};
    assert_int_equal(exo_record_check(r_take, ME, "laptop", &err), EXO_EFORMAT);
    if (strstr(err.message, part) == NULL) fail_msg("%s is not in: %s", part, err.message);
    json_decref(r_take);
}

static void lies_about_devices_are_refused(void **ud) {
    (void)ud;
    char long_id[EXO_DEVICE_ID_MAX + 2];
    memset(long_id, 'x', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    const struct {
        const char *key;
        json_t *value_take;
    } lies[] = {
        {"memory_total_bytes", json_integer(-1)},
        {"memory_total_bytes", json_integer(INT64_MAX)},
        {"memory_available_bytes", json_real(1e300)},
        {"compute_units", json_integer(-4)},
        {"compute_units", json_string("many")},
        {"temperature_celsius", json_real(1e300)},
        {"device_id", json_string("a/b")},
        {"device_id", json_string("")},
        {"device_id", json_string("\x1b[2J")},
        {"device_id", json_string(long_id)},
        {"device_id", json_null()},
        {"vendor", json_array()},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        json_t *r = record();
        json_object_set_new(device(r), lies[i].key, lies[i].value_take);
        refuses(r, lies[i].key);
    }
}

static void lists_have_limits(void **ud) {
    (void)ud;
    json_t *r = record(), *devices = json_object_get(r, "devices");
    while (json_array_size(devices) <= EXO_RECORD_MAX_DEVICES) {
        json_array_append_new(devices, json_deep_copy(device(r)));
    }
    refuses(r, "devices");
    r = record();
    json_t *models = json_object_get(r, "models");
    while (json_array_size(models) <= EXO_RECORD_MAX_MODELS) {
        json_array_append_new(models, json_pack("{s:s}", "id", "m"));
    }
    refuses(r, "models");
    r = record();
    json_array_append_new(json_object_get(r, "models"), json_integer(1));
    refuses(r, "models");
    r = record();
    json_array_append_new(json_object_get(r, "models"), json_pack("{s:s}", "id", "a\nb"));
    refuses(r, "id");
    r = record();
    json_object_set_new(r, "downloads", json_array());
    refuses(r, "downloads");
    r = record();
    json_object_set_new(r, "instances", json_array());
    refuses(r, "instances");
}

static void texts_are_cleaned_and_cut(void **ud) {
    (void)ud;
    char large[10001];
    memset(large, 'y', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    json_t *r = record();
    json_object_set_new(device(r), "name", json_string("a\x1b[31mb\n"));
    json_object_set_new(device(r), "vendor", json_string(large));
    assert_int_equal(exo_record_check(r, ME, "laptop", NULL), EXO_OK);
    assert_string_equal(json_string_value(json_object_get(device(r), "name")), "a?[31mb?");
    assert_int_equal(json_string_length(json_object_get(device(r), "vendor")), EXO_RECORD_MAX_TEXT);
    json_decref(r);
}

static void nobody_speaks_for_anothers_instance(void **ud) {
    (void)ud;
    json_t *r = record(), *all = json_object_get(r, "instances");
    json_object_set_new(all, "theirs",
                        json_pack("{s:s, s:s, s:s}", "owner", "fedcba9876543210", "model_id",
                                  "tiny", "state", "running"));
    json_object_set_new(all, "odd", json_pack("{s:s, s:i}", "owner", ME, "model_id", 1));
    json_object_set_new(all, "none", json_null());
    assert_int_equal(exo_record_check(r, ME, "laptop", NULL), EXO_OK);
    assert_int_equal(json_object_size(all), 1);
    assert_non_null(json_object_get(all, "a"));
    json_decref(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_right_is_kept_and_the_name_is_the_proven_one),
        cmocka_unit_test(lies_about_devices_are_refused),
        cmocka_unit_test(lists_have_limits),
        cmocka_unit_test(texts_are_cleaned_and_cut),
        cmocka_unit_test(nobody_speaks_for_anothers_instance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
