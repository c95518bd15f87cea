/* listen_lan.h - who can be heard on the network when no node runs here: for `exo doctor`.
 *
 * Announces nothing.  Thread: ANY; blocks for listen_ms. */
#ifndef EXO_NODE_LISTEN_LAN_H
#define EXO_NODE_LISTEN_LAN_H

#include "net/keyring.h"

/* The same shape as "discovery" of GET /state, as far as it can be told: a new reference. */
exo_status exo_listen_lan(const char *data_dir, const exo_keyring *k, uint32_t listen_ms,
                          json_t **out, exo_error *err);

#endif
