/* Connection profiles: where to connect is proven like a secret. Places are the package (0) and three records; one is
 * the first, one the fall-back, one on trial. Only a working connection replaces a working connection. */
#include "core.h"

enum { VERSION = 1, HOUR_MS = 3600 * 1000, NO_PLACE = 0xFF, REJECTED = 1, REVERTED = 2 };

void mdm_put_places(struct mdm *m, struct mdm_out *out) {
  mdm_put_u64(out, VERSION, 1);
  mdm_put(out, m->places, sizeof m->places);
  mdm_put(out, m->place_ids, sizeof m->place_ids);
  mdm_put(out, m->refused_place, sizeof m->refused_place);
  mdm_put_u64(out, m->refused_outcome, 1);
}

bool mdm_load_places(struct mdm *m) {
  const uint8_t *at, *end;
  int there = mdm_load_record(m, "places", VERSION, &at, &end);
  bool good = true;
  m->places[PLACE_FIRST] = 0;
  m->places[PLACE_FALLBACK] = m->places[PLACE_TRIAL] = NO_PLACE;
  m->places[PLACE_TURN] = 0;
  m->refused_outcome = 0;
  if (there <= 0) return there == 0;
  mdm_take(&at, end, m->places, sizeof m->places, &good);
  mdm_take(&at, end, m->place_ids, sizeof m->place_ids, &good);
  mdm_take(&at, end, m->refused_place, sizeof m->refused_place, &good);
  m->refused_outcome = (uint8_t)mdm_take_u64(&at, end, 1, &good);
  for (unsigned i = 0; i < 3; i++) good = good && (m->places[i] <= MDM_PLACES || m->places[i] == NO_PLACE);
  return good && at == end && m->places[PLACE_FIRST] != NO_PLACE;
}

/* The place that works when none is on trial. */
static uint8_t proven(const struct mdm *m) {
  return m->places[m->places[PLACE_TURN] && m->places[PLACE_FALLBACK] != NO_PLACE ? PLACE_FALLBACK : PLACE_FIRST];
}

static uint8_t in_use(const struct mdm *m) { return m->places[PLACE_TRIAL] != NO_PLACE ? m->places[PLACE_TRIAL] : proven(m); }

static const char *record(uint8_t place) {
  static const char *const RECORDS[] = {"package", "place1", "place2", "place3"};
  return RECORDS[place <= MDM_PLACES ? place : 0];
}

const char *mdm_place_in_use(const struct mdm *m) { return record(in_use(m)); }

static void refuse(struct mdm *m, const char *id, uint8_t outcome) {
  memcpy(m->refused_place, id, sizeof m->refused_place);
  m->refused_outcome = outcome;
  mdm_do(m, W_PLACES);
}

static void revert(struct mdm *m) {
  refuse(m, m->place_ids[m->places[PLACE_TRIAL]], REVERTED);
  m->places[PLACE_TRIAL] = NO_PLACE;
  m->timers[T_PLACE_TRIAL] = 0;
  mdm_log(m, MDM_WARNING, "mdm", "the connection profile is reverted");
}

/* `id` is that of the package's profile, or empty: a new one takes the first place. */
void mdm_begin_places(struct mdm *m, const char *id) {
  if (m->places[PLACE_TRIAL] != NO_PLACE) revert(m);
  if (strncmp(m->place_ids[0], id, 16) == 0) return;
  memset(m->place_ids[0], 0, sizeof m->place_ids[0]);
  if (strlen(id) == 16) memcpy(m->place_ids[0], id, 16);
  if (m->places[PLACE_FIRST] != 0) m->places[PLACE_FALLBACK] = m->places[PLACE_FIRST];
  m->places[PLACE_FIRST] = m->places[PLACE_TURN] = 0;
  mdm_do(m, W_PLACES);
}

/* The fall-back is permanent: after an hour without a login, the other place has its turn, also after a restart. */
void mdm_take_turns(struct mdm *m) {
  if (m->places[PLACE_TRIAL] != NO_PLACE || m->places[PLACE_FALLBACK] == NO_PLACE) return;
  if (m->now - m->offline_since < mdm_pause(m, HOUR_MS)) return;
  m->offline_since = m->now;
  m->places[PLACE_TURN] ^= 1;
  mdm_do(m, W_PLACES);
}

void mdm_place_trial_ends(struct mdm *m) {
  if (m->places[PLACE_TRIAL] == NO_PLACE) return;
  revert(m);
  mdm_log_in_anew(m);
}

bool mdm_on_place_trial(const struct mdm *m) { return m->places[PLACE_TRIAL] != NO_PLACE; }

/* Our request was answered over this connection: it works. */
void mdm_place_works(struct mdm *m) {
  if (!mdm_on_place_trial(m)) return;
  uint8_t before = proven(m);
  m->places[PLACE_FIRST] = m->places[PLACE_TRIAL];
  m->places[PLACE_FALLBACK] = before;
  m->places[PLACE_TRIAL] = NO_PLACE;
  m->places[PLACE_TURN] = 0;
  m->timers[T_PLACE_TRIAL] = 0;
  mdm_do(m, W_PLACES);
  mdm_ask_config(m); /* which reports it */
  mdm_talk_on(m);
}

/* A record that is neither the first place nor the fall-back. */
static uint8_t free_place(const struct mdm *m) {
  uint8_t place = 1;
  while (place == m->places[PLACE_FIRST] || place == m->places[PLACE_FALLBACK]) place++;
  return place;
}

bool mdm_on_connection(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"connection_id", "trial_seconds", "profile", "jwe", NULL};
  struct mdm_json it[4];
  struct mdm_place place;
  char id[17];
  uint8_t bytes[8];
  uint64_t trial_s;
  size_t length = 0;
  if (!mdm_json_object(text, size, NAMES, it) || mdm_json_text(&it[0], id, sizeof id) != 16) return false;
  if (!mdm_from_hex(id, 8, bytes) || !mdm_json_count(&it[1], 86400, &trial_s) || trial_s == 0) return false;
  if (memcmp(m->place_ids[in_use(m)], id, sizeof id) == 0) return true;
  /* One trial at a time; the profile is sent again. */
  if (mdm_on_place_trial(m) || mdm_on_image_trial(m) || mdm_on_config_trial(m)) return true;
  char *profile = NULL;
  if (it[3].kind == '"') {
    profile = mdm_unseal(m, (char *)(uintptr_t)it[3].at, it[3].size, &length);
  } else if (it[2].kind == '{') {
    profile = (char *)(uintptr_t)it[2].at;
    length = it[2].size;
  }
  if (profile == NULL) return false;
  if (!mdm_check_place(profile, length, &place) || (place.use_token && !m->facts->has_tokens)) {
    refuse(m, id, REJECTED);
    mdm_ask_config(m);
    return true;
  }
  memcpy(m->next_place, id, sizeof id);
  m->next_trial_s = (uint32_t)trial_s;
  m->document_at = (size_t)(profile - m->buffer);
  m->document_size = length;
  mdm_do(m, W_PLACE);
  return true;
}

void mdm_store_place(struct mdm *m, struct mdm_action *action) {
  action->kind = MDM_STORE;
  action->name = record(free_place(m));
  action->data = m->buffer + m->document_at;
  action->size = m->document_size;
}

void mdm_stored_place(struct mdm *m) {
  uint8_t place = free_place(m);
  memcpy(m->place_ids[place], m->next_place, sizeof m->next_place);
  m->places[PLACE_TRIAL] = place;
  mdm_set_timer(m, T_PLACE_TRIAL, m->next_trial_s * 1000);
  mdm_do(m, W_PLACES);
  mdm_log_in_anew(m);
}

static void put_id(const struct mdm *m, struct mdm_out *out, const char *name, uint8_t place) {
  if (place != NO_PLACE) mdm_put_field(out, name, m->place_ids[place]);
}

void mdm_put_connection(const struct mdm *m, struct mdm_out *out) {
  mdm_put_key(out, "connection");
  mdm_put_text(out, "{");
  put_id(m, out, "first", m->places[PLACE_FIRST]);
  put_id(m, out, "fallback", m->places[PLACE_FALLBACK]);
  put_id(m, out, "in_use", in_use(m));
  if (m->refused_outcome != 0) {
    mdm_put_key(out, "refused");
    mdm_put_text(out, "{");
    mdm_put_field(out, "connection_id", m->refused_place);
    mdm_put_field(out, "outcome", m->refused_outcome == REJECTED ? "rejected" : "reverted");
    mdm_put_field(out, "reason", m->refused_outcome == REJECTED ? "this firmware cannot use it" : "no answer in time, or a restart");
    mdm_put_text(out, "}");
  }
  mdm_put_text(out, "}");
}
