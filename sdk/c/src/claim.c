/* Claiming an identity: a machine without one asks for it with a claim's account until it is granted. Its key is stored
 * before the first request, so after a power cut the same identity is granted again. */
#include "core.h"

enum { PENDING_MS = 60000 };

/* Reads the claim package: where to connect, and as whom. */
bool mdm_load_claim(struct mdm *m, struct mdm_place *place) {
  static const char *const NAMES[] = {"account", "password", NULL};
  struct mdm_json it[2];
  int32_t size = mdm_load(m, "claim");
  return size > 0 && mdm_json_object(m->buffer, (size_t)size, NAMES, it) &&
         mdm_json_text(&it[0], m->recovery.account, sizeof m->recovery.account) > 0 &&
         mdm_json_text(&it[1], m->recovery.password, sizeof m->recovery.password) > 0 &&
         mdm_read_place(m->buffer, (size_t)size, place);
}

enum mdm_error mdm_begin_claim(struct mdm *m) {
  struct mdm_place place;
  const char *uid = m->facts->uid;
  if (uid == NULL || (strlen(uid) != 12 && strlen(uid) != 16) || !mdm_load_claim(m, &place)) return MDM_NO_IDENTITY;
  memcpy(m->client_id, uid, strlen(uid) + 1);
  return MDM_OK;
}

bool mdm_say_claim(struct mdm *m, struct mdm_out *out) {
  mdm_put_field(out, "uid", m->client_id);
  mdm_put_field(out, "public_key", m->public_key);
  return true;
}

bool mdm_on_claim_answer(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"outcome", "jwe", NULL};
  struct mdm_json it[2];
  struct mdm_place place;
  size_t length;
  if (!mdm_json_object(text, size, NAMES, it)) return false;
  /* Pending or refused: a person may resolve it, and then the answer comes by itself. */
  mdm_set_timer(m, P_CLAIM, mdm_pause(m, PENDING_MS / 2 + (m->boot & 0x7FFF) % (PENDING_MS / 2)));
  if (!mdm_json_is(&it[0], "granted")) return true;
  char *package = it[1].kind == '"' ? mdm_unseal(m, (char *)(uintptr_t)it[1].at, it[1].size, &length) : NULL;
  if (package == NULL || !mdm_check_place(m, package, length, &place) || !place.is_package) return false;
  m->document_at = (size_t)(package - m->buffer);
  m->document_size = length;
  mdm_do(m, W_PACKAGE);
  return true;
}
