/* The record of the identity (key, slots, recovery), and the messages of key and rotation. */
#include "core.h"

enum { VERSION = 1, DAY_MS = 24 * 3600 * 1000 };

/* ---- The record: version, client id, key, two slots, recovery ---- */

static void put_text(struct mdm_out *out, const char *text) {
  mdm_put_u64(out, strlen(text), 1);
  mdm_put_text(out, text);
}

static void take_text(const uint8_t **at, const uint8_t *end, char *to, size_t capacity, bool *good) {
  size_t size = (size_t)mdm_take_u64(at, end, 1, good);
  *good = *good && size < capacity;
  if (mdm_take(at, end, to, size, good)) to[size] = '\0';
}

static void put_slot(struct mdm_out *out, const struct mdm_slot *slot) {
  put_text(out, slot->secret);
  mdm_put_u64(out, slot->generation, 8);
  put_text(out, slot->rotation_id);
}

static void take_slot(const uint8_t **at, const uint8_t *end, struct mdm_slot *slot, bool *good) {
  memset(slot, 0, sizeof *slot);
  take_text(at, end, slot->secret, sizeof slot->secret, good);
  slot->generation = mdm_take_u64(at, end, 8, good);
  take_text(at, end, slot->rotation_id, sizeof slot->rotation_id, good);
}

void mdm_put_identity(struct mdm *m, struct mdm_out *out) {
  mdm_put_u64(out, VERSION, 1);
  put_text(out, m->client_id);
  mdm_put(out, m->key, sizeof m->key);
  put_slot(out, &m->slots.first);
  put_slot(out, &m->slots.second);
  mdm_put_u64(out, m->recovery.port, 2);
  put_text(out, m->recovery.account);
  put_text(out, m->recovery.password);
  mdm_put(out, m->recovery.server_key, sizeof m->recovery.server_key);
}

enum mdm_error mdm_load_identity(struct mdm *m) {
  const uint8_t *at, *end;
  int there = mdm_load_record(m, "identity", VERSION, &at, &end);
  bool good = true;
  if (there <= 0) return there == 0 ? MDM_NO_IDENTITY : MDM_DAMAGED;
  take_text(&at, end, m->client_id, sizeof m->client_id, &good);
  mdm_take(&at, end, m->key, sizeof m->key, &good);
  take_slot(&at, end, &m->slots.first, &good);
  take_slot(&at, end, &m->slots.second, &good);
  m->recovery.port = (uint16_t)mdm_take_u64(&at, end, 2, &good);
  take_text(&at, end, m->recovery.account, sizeof m->recovery.account, &good);
  take_text(&at, end, m->recovery.password, sizeof m->recovery.password, &good);
  mdm_take(&at, end, m->recovery.server_key, sizeof m->recovery.server_key, &good);
  if (!good || at != end) return MDM_DAMAGED;
  return mdm_public_key(m) ? MDM_OK : MDM_FAILED;
}

/* ---- What happens to the slots ---- */

static void settle(struct mdm *m, enum mdm_change change) {
  if (change == MDM_KEEP) return;
  mdm_change_slots(&m->slots, change);
  mdm_do(m, W_IDENTITY);
  m->timers[P_ROTATION] = 0;
  mdm_log(m, MDM_INFO, "mdm", change == MDM_PROMOTE ? "the new secret is confirmed" : "the new secret is discarded");
  if (mdm_is_orphan(&m->slots, m->login)) mdm_log_in_anew(m);
}

void mdm_on_confirmed(struct mdm *m, uint64_t generation) {
  if (mdm_has_spare(&m->slots, m->package_generation) && m->package_generation == generation) {
    mdm_do(m, W_ADOPT);
  } else if (m->slots.second.secret[0] != '\0' && m->slots.second.generation == generation) {
    settle(m, MDM_PROMOTE);
  }
}

/* Puts the package's secret, now confirmed, into the first slot. */
void mdm_adopt_package(struct mdm *m) {
  struct mdm_place place;
  if (!mdm_load_place(m, "package", m->capacity, &place) || place.secret == NULL) return;
  mdm_adopt(&m->slots, place.secret, place.secret_generation);
  mdm_do(m, W_IDENTITY);
  mdm_say(m, P_KEY);
}

/* ---- Messages of a rotation ---- */

/* Reads the rotation's id from the member `it`, in lower case. */
static bool take_id(const struct mdm_json *it, char id[37]) { return mdm_json_text(it, id, 37) == 36 && mdm_is_uuid(id); }

bool mdm_on_offer(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"rotation_id", "deadline", "generation", "current_generation", NULL};
  struct mdm_json found[4];
  struct mdm_offer offer;
  enum mdm_change change;
  if (!mdm_json_object(text, size, NAMES, found) || !take_id(&found[0], offer.rotation_id) || found[1].kind != '"' ||
      !mdm_from_time(found[1].at, found[1].size, &offer.deadline_ms) ||
      !mdm_json_count(&found[2], INT64_MAX, &offer.generation) ||
      !mdm_json_count(&found[3], INT64_MAX, &offer.current_generation))
    return false;
  enum mdm_verdict verdict = mdm_judge(&m->slots, &m->wanted, &offer, mdm_server_time(m), &change);
  settle(m, change);
  if (verdict == MDM_ACCEPTED || verdict == MDM_REPEATED) mdm_say(m, P_ROTATION);
  return true;
}

bool mdm_on_secret(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"rotation_id", "generation", "jwe", NULL};
  struct mdm_json found[3];
  char id[37];
  uint64_t generation;
  size_t length;
  if (!mdm_json_object(text, size, NAMES, found) || !take_id(&found[0], id) ||
      !mdm_json_count(&found[1], INT64_MAX, &generation))
    return false;
  if (!mdm_takes_secret(&m->slots, &m->wanted, id, generation, mdm_server_time(m))) return true;
  char *secret = found[2].kind == '"' ? mdm_unseal(m, (char *)(uintptr_t)found[2].at, found[2].size, &length) : NULL;
  if (secret == NULL || !mdm_is_secret(secret, length)) return false;
  struct mdm_slot *second = &m->slots.second;
  memset(second, 0, sizeof *second);
  memcpy(second->secret, secret, length);
  memcpy(second->rotation_id, id, sizeof id);
  second->generation = generation;
  m->wanted.rotation_id[0] = '\0';
  mdm_do(m, W_IDENTITY);
  mdm_say(m, P_ROTATION);
  mdm_log(m, MDM_INFO, "mdm", "a new secret is stored");
  return true;
}

/* Reads a message that names a rotation, the one of the second slot or not. */
static bool is_ours(struct mdm *m, const char *text, size_t size, char id[37], bool *ours) {
  static const char *const NAMES[] = {"rotation_id", NULL};
  struct mdm_json found[1];
  if (!mdm_json_object(text, size, NAMES, found) || !take_id(&found[0], id)) return false;
  *ours = mdm_holds(&m->slots.second, id);
  return true;
}

bool mdm_on_switch(struct mdm *m, char *text, size_t size) {
  char id[37];
  bool ours;
  if (!is_ours(m, text, size, id, &ours)) return false;
  /* A broker that refuses the announced secret must not cause an endless loop: `stored` brings another switch. */
  if (ours && m->login != m->slots.second.generation && m->now >= m->refused_until) mdm_log_in_anew(m);
  return true;
}

bool mdm_on_rotated(struct mdm *m, char *text, size_t size) {
  char id[37];
  bool ours;
  if (!is_ours(m, text, size, id, &ours)) return false;
  if (ours) settle(m, MDM_PROMOTE);
  return true;
}

bool mdm_on_cancelled(struct mdm *m, char *text, size_t size) {
  char id[37];
  bool ours;
  if (!is_ours(m, text, size, id, &ours)) return false;
  if (strcmp(m->wanted.rotation_id, id) == 0) m->wanted.rotation_id[0] = '\0';
  if (ours) settle(m, MDM_DISCARD);
  return true;
}

static enum mdm_due due(const struct mdm *m) {
  enum mdm_due due = mdm_due(&m->slots, &m->wanted, m->login, mdm_server_time(m));
  bool recovered = due > MDM_REQUEST && m->slots.second.rotation_id[0] == '\0'; /* of no rotation */
  return recovered ? MDM_NOTHING : due;
}

const char *mdm_rotation_topic(const struct mdm *m) {
  static const char *const TOPICS[] = {NULL, "rotation/request", "rotation/stored", "rotation/ack"};
  return TOPICS[due(m)];
}

bool mdm_say_rotation(struct mdm *m, struct mdm_out *out) {
  static const char *const WORDS[] = {NULL, "request", "stored", "ack"};
  enum mdm_due what = due(m);
  const struct mdm_slot *first = &m->slots.first, *second = &m->slots.second;
  const char *id = what == MDM_REQUEST ? m->wanted.rotation_id : second->rotation_id;
  mdm_put_field(out, "rotation_id", id);
  if (what == MDM_REQUEST) mdm_put_field(out, "public_key", m->public_key);
  bool good = mdm_put_proof(m, out, "proof", what == MDM_REQUEST ? first->secret : second->secret, WORDS[what], id);
  if (what == MDM_STORED) good = good && mdm_put_proof(m, out, "current_proof", first->secret, "current", id);
  return good;
}

/* ---- The key: registered once for each start, and each day ---- */

bool mdm_say_key(struct mdm *m, struct mdm_out *out) {
  const struct mdm_slot *slot = m->login == m->slots.first.generation ? &m->slots.first : &m->slots.second;
  if (slot->secret[0] == '\0' || slot->generation != m->login) return false; /* the package's: adopted first */
  mdm_put_field(out, "public_key", m->public_key);
  bool good = mdm_put_proof(m, out, "proof", slot->secret, "key", m->public_key);
  return good;
}

bool mdm_take_recovery(const struct mdm_json *it, struct mdm_recovery *recovery) {
  static const char *const NAMES[] = {"port", "account", "password", "server_key", NULL};
  struct mdm_json found[4];
  uint64_t port;
  memset(recovery, 0, sizeof *recovery); /* the unused bytes too: recoveries are compared as bytes */
  if (it->kind != '{' || !mdm_json_object(it->at, it->size, NAMES, found)) return false;
  if (!mdm_json_count(&found[0], UINT16_MAX, &port) || port == 0) return false;
  if (mdm_json_text(&found[1], recovery->account, sizeof recovery->account) <= 0) return false;
  if (mdm_json_text(&found[2], recovery->password, sizeof recovery->password) < 0) return false;
  if (found[3].kind != '"' || mdm_from_base64url(found[3].at, found[3].size, recovery->server_key, 32) != 32)
    return false;
  recovery->port = (uint16_t)port;
  return true;
}

bool mdm_on_key(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"public_key", "recovery", NULL};
  struct mdm_json found[2];
  if (!mdm_json_object(text, size, NAMES, found) || found[0].kind != '"') return false;
  m->timers[P_KEY] = 0;
  m->key_told_at = m->now;
  m->knows_key = true;
  if (!mdm_json_is(&found[0], m->public_key)) {
    mdm_log(m, MDM_ERROR, "mdm", "another key is registered for this device");
    return true;
  }
  if (found[1].kind == 0 || found[1].kind == 'n') return true;
  struct mdm_recovery recovery;
  if (!mdm_take_recovery(&found[1], &recovery)) return false;
  if (memcmp(&recovery, &m->recovery, sizeof recovery) != 0) {
    m->recovery = recovery;
    mdm_do(m, W_IDENTITY);
  }
  return true;
}

bool mdm_key_is_due(const struct mdm *m) { return !m->knows_key || m->now - m->key_told_at >= DAY_MS; }

uint32_t mdm_key_told_s(const struct mdm *m) { return m->knows_key ? (uint32_t)((m->now - m->key_told_at) / 1000) + 1 : 0; }
