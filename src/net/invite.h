/* invite.h - join codes: six words that let one new device fetch the cluster's key, once.
 *
 * A code is 66 random bits: six of 2048 words, each made of two short ones (invite.c has the
 * list, written for exo).  scrypt turns it into the key of one TLS link and an id by which the
 * inviting node finds that key again; the code itself is stored nowhere.
 * <data_dir>/invites.json (mode 0600) holds codes that were given out, until a while after they
 * are used or expired, so that a second use gets a clear answer.
 * Thread: ANY; the file is changed under a lock. */
#ifndef EXO_NET_INVITE_H
#define EXO_NET_INVITE_H

#include "net/tls.h"

#define EXO_CODE_WORDS      6
#define EXO_CODE_BYTES      128
#define EXO_INVITE_FILE     "invites.json"
#define EXO_INVITE_MIN_S    60u
#define EXO_INVITE_MAX_S    86400u
#define EXO_INVITE_USUAL_S  600u
#define EXO_INVITE_MAX_OPEN 16
#define EXO_INVITE_LATE_S   600.0

typedef struct {
    char id[EXO_JOIN_ID_BYTES];
    uint8_t key[EXO_JOIN_KEY_BYTES];
    double expires; /* seconds since 1970 */
    char used_by[64];
} exo_invite;

/* A new code, its words joined by "-". */
exo_status exo_code_make(char out[EXO_CODE_BYTES], exo_error *err);
/* Key and id of a code as people type it: any case, any separators, and what the QR code holds
 * ("exo:CODE?peers=...").  EXO_EINVAL names the word that is none.  Takes about 50 ms (scrypt). */
exo_status exo_code_read(const char *text, exo_invite *out, exo_error *err);

/* Stores an invitation; old ones go.  EXO_EBUSY with EXO_INVITE_MAX_OPEN open. */
exo_status exo_invites_add(const char *data_dir, const exo_invite *i, exo_error *err);
/* False: no such invitation, or its file cannot be read. */
bool exo_invites_find(const char *data_dir, const char *id, exo_invite *out);
/* Marks it used; EXO_EBUSY when it was, EXO_ETIMEDOUT when it expired. */
exo_status exo_invites_use(const char *data_dir, const char *id, const char *by, exo_error *err);
/* Until when (seconds since 1970) this node says that it gives out codes: a while longer than the
 * last one is good, so that a late or second use is answered.  0 = it does not. */
double exo_invites_said_until(const char *data_dir);

#endif
