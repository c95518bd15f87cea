/* cmd_invite.c - `exo invite`: a join code for one new device. */
#define _DEFAULT_SOURCE
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/local.h"
#include "cli/qr.h"
#include "net/addr.h"
#include "net/invite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_ADDRESSES 4

/* Where this node accepts links, as other devices of the network may reach it. */
static void add_addresses(const json_t *discovery, exo_buf *out) {
    size_t i, n = 0;
    json_t *f, *port = json_object_get(discovery, "port");
    json_array_foreach(json_object_get(discovery, "interfaces"), i, f) {
        const char *host = json_string_value(json_object_get(f, "address"));
        char text[80];
        if (!json_is_true(json_object_get(f, "used")) || host == NULL ||
            strchr(host, '%') != NULL || n >= MAX_ADDRESSES ||
            !exo_addr_format(host, (uint16_t)json_integer_value(port), text, sizeof text)) {
            continue;
        }
        exo_buf_printf(out, "%s%s", n++ == 0 ? "?peers=" : ",", text);
    }
}

static void print_invitation(const char *code, uint32_t minutes, const json_t *state) {
    exo_buf link = {0}, picture = {0};
    printf("Join code for one device, good for %u minutes:\n\n    %s\n\n"
           "On the new device: exo join %s\n",
           minutes, code, code);
    exo_buf_printf(&link, "exo:%s", code);
    add_addresses(json_object_get(state, "discovery"), &link);
    if (exo_buf_ok(&link) && exo_qr_draw(link.data, &picture) && exo_buf_ok(&picture)) {
        printf("\n%s", picture.data);
    }
    exo_buf_finish(&link);
    exo_buf_finish(&picture);
}

static int invite(int argc, char **argv) {
    const exo_command *c = &exo_cmd_invite;
    const char *data_dir = NULL, *minutes_text = NULL;
    uint32_t minutes = EXO_INVITE_USUAL_S / 60;
    const exo_option options[] = {
        {.name = "data-dir", .value = &data_dir}, {.name = "minutes", .value = &minutes_text}, {0}};
    int rc = exo_cli_parse(c, argc, argv, options, NULL, 0);
    if (rc != EXO_EXIT_OK) return rc;
    if (!exo_cli_u32(c, "minutes", minutes_text, EXO_INVITE_MIN_S / 60, EXO_INVITE_MAX_S / 60,
                     &minutes)) {
        return EXO_EXIT_USAGE;
    }
    if (data_dir == NULL) data_dir = exo_cli_data_dir();
    exo_error err = {0};
    json_t *state;
    char code[EXO_CODE_BYTES];
    exo_invite i;
    exo_status st = exo_cli_local_state(data_dir, &state, &err);
    if (st == EXO_ENOTFOUND) {
        exo_error_set(&err, st, "no exo node runs with the data directory %s: start `exo` first",
                      data_dir);
    }
    if (st == EXO_OK) st = exo_code_make(code, &err);
    if (st == EXO_OK) st = exo_code_read(code, &i, &err);
    if (st == EXO_OK) {
        i.expires = exo_unix_time() + minutes * 60.0;
        st = exo_invites_add(data_dir, &i, &err);
    }
    if (st == EXO_OK) print_invitation(code, minutes, state);
    json_decref(state);
    return st == EXO_OK ? EXO_EXIT_OK : exo_cli_fail(&err);
}

const exo_command exo_cmd_invite = {
    .name = "invite",
    .summary = "make a join code for one new device",
    .help = "usage: exo invite [--minutes M] [--data-dir D]\n\n"
            "Prints six words, and a QR code where exo was built with one, that let one device\n"
            "join the cluster of the node that runs here.  A code works once.\n"
            "  --minutes M     how long the code is good (1 to 1440; default 10)\n"
            "  --data-dir D    of the running node (default: EXO_HOME or ~/.exo)\n\n"
            "  exo invite\n",
    .run = invite,
};
