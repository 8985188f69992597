/* Connection profiles: where to connect is proven like a secret; device/connection.py in C. Three records have a profile
 * each, also the package's, and one more has their use. What worked last is never dropped: it is the first or the
 * fall-back, and both have their turn. */
#include "core.h"

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS, START_MS = 10000, STARTS_MAX = 6 };
enum { REJECTED = 1, REVERTED = 2, PACKAGE = 0 }; /* the mark of the package is before those of the records 1 to 3 */

bool mdm_are_places_good(const struct mdm *m) {
  const struct mdm_profiles *it = &m->profiles;
  for (unsigned i = 0; i <= PLACE_TRIAL; i++)
    if (it->places[i] > MDM_PLACES) return false;
  if (it->turn > PLACE_FALLBACK || it->works > PLACE_FALLBACK + 1) return false;
  if (it->works > 0 && it->places[it->works - 1] == 0) return false;
  return it->turn == PLACE_FIRST || it->places[PLACE_FALLBACK] != 0;
}

bool mdm_on_place_trial(const struct mdm *m) { return m->profiles.places[PLACE_TRIAL] != 0; }

static uint8_t in_use(const struct mdm *m) { return m->profiles.places[mdm_on_place_trial(m) ? PLACE_TRIAL : m->profiles.turn]; }

static const char *record(uint8_t place) {
  static const char *const RECORDS[] = {"package", "place1", "place2", "place3"};
  return RECORDS[place];
}

const char *mdm_place_in_use(const struct mdm *m) { return record(in_use(m)); }

/* A record that is neither the first nor the fall-back. */
static uint8_t free_place(const struct mdm *m) {
  uint8_t place = 1;
  while (place == m->profiles.places[PLACE_FIRST] || place == m->profiles.places[PLACE_FALLBACK]) place++;
  return place;
}

void mdm_place_is_lost(struct mdm *m) {
  if (m->timers[T_OFFLINE] == 0) mdm_set_timer(m, T_OFFLINE, m->facts->turn_ms > 0 ? m->facts->turn_ms : mdm_pause(m, HOUR_MS));
}

/* Another profile has all its time. */
static void begin_turn(struct mdm *m) {
  m->failures = 0;
  m->timers[T_SILENT] = m->timers[T_OFFLINE] = 0;
  mdm_place_is_lost(m);
}

static void refuse(struct mdm *m, const char *id, uint8_t outcome) {
  memcpy(m->profiles.refused_id, id, sizeof m->profiles.refused_id);
  m->profiles.refused_outcome = outcome;
  mdm_do(m, W_PLACES);
}

static void revert(struct mdm *m) {
  refuse(m, m->profiles.marks[m->profiles.places[PLACE_TRIAL]].id, REVERTED);
  m->profiles.places[PLACE_TRIAL] = 0;
  m->timers[T_PLACE_TRIAL] = 0;
  begin_turn(m);
  mdm_log(m, MDM_WARNING, "mdm", "the connection profile is reverted");
}

static void reject(struct mdm *m, const char *id) {
  if (m->profiles.refused_outcome == REJECTED && strcmp(m->profiles.refused_id, id) == 0) return; /* reported already */
  refuse(m, id, REJECTED);
  mdm_ask_config(m);
}

static bool has_other(const struct mdm *m) { return !mdm_on_place_trial(m) && m->profiles.places[PLACE_FALLBACK] != 0; }

static void take_turns(struct mdm *m) {
  m->profiles.turn ^= PLACE_FIRST ^ PLACE_FALLBACK;
  m->profiles.starts = 0;
  begin_turn(m);
  mdm_do(m, W_PLACES);
}

/* Makes a record the first; what worked last is its fall-back, and what never worked is dropped. */
static void replace(struct mdm *m, uint8_t place) {
  uint8_t worked = m->profiles.works == 0 ? 0 : m->profiles.places[m->profiles.works - 1];
  if (worked != 0 && memcmp(m->profiles.marks[worked].print, m->profiles.marks[place].print, sizeof m->profiles.marks[0].print) == 0)
    worked = m->profiles.places[PLACE_FALLBACK]; /* only the id is another one */
  m->profiles.places[PLACE_FIRST] = place;
  m->profiles.places[PLACE_FALLBACK] = worked;
  m->profiles.turn = PLACE_FIRST;
  m->profiles.starts = 0;
}

void mdm_begin_places(struct mdm *m) {
  struct mdm_place place;
  if (mdm_on_place_trial(m)) revert(m);
  begin_turn(m);
  mdm_set_timer(m, T_START, mdm_pause(m, START_MS));
  int32_t size = mdm_load(m, "package");
  if (size <= 0 || !mdm_check_place(m, m->buffer, (size_t)size, &place)) return;
  if (memcmp(&place.mark, &m->profiles.marks[PACKAGE], sizeof place.mark) != 0) {
    m->next_mark = place.mark;
    m->next_trial_s = 0;
    mdm_do(m, W_PLACE);
  } else if (has_other(m) && m->profiles.starts >= STARTS_MAX) {
    take_turns(m);
  }
}

void mdm_place_trial_ends(struct mdm *m) {
  if (!mdm_on_place_trial(m)) return;
  revert(m);
  mdm_log_in_anew(m);
}

/* After an hour without a connection, or a day without an answer. */
void mdm_turn_ends(struct mdm *m) {
  if (!has_other(m)) return;
  take_turns(m);
  mdm_log_in_anew(m);
}

/* This start has no answer yet. */
void mdm_start_counts(struct mdm *m) {
  if (!has_other(m) || m->profiles.starts == UINT8_MAX) return;
  m->profiles.starts++;
  mdm_do(m, W_PLACES);
}

void mdm_place_is_connected(struct mdm *m) { m->timers[T_OFFLINE] = 0; }

void mdm_place_is_asked(struct mdm *m) {
  if (m->timers[T_SILENT] == 0) mdm_set_timer(m, T_SILENT, mdm_pause(m, DAY_MS));
}

/* Our request was answered over this connection: it works. */
void mdm_place_works(struct mdm *m) {
  m->timers[T_SILENT] = m->timers[T_START] = 0;
  if (mdm_on_place_trial(m)) {
    uint8_t place = m->profiles.places[PLACE_TRIAL];
    replace(m, place);
    m->profiles.places[PLACE_TRIAL] = 0;
    m->timers[T_PLACE_TRIAL] = 0;
    if (strcmp(m->profiles.refused_id, m->profiles.marks[place].id) == 0) m->profiles.refused_outcome = 0;
    mdm_ask_config(m); /* which reports it */
  } else if (m->profiles.works == m->profiles.turn + 1 && m->profiles.starts == 0) {
    return;
  }
  m->profiles.works = (uint8_t)(m->profiles.turn + 1);
  m->profiles.starts = 0;
  mdm_do(m, W_PLACES);
}

bool mdm_on_connection(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"connection_id", "trial_seconds", "profile", "jwe", NULL};
  struct mdm_json it[4];
  struct mdm_place place;
  char id[17];
  uint8_t bytes[8];
  uint64_t trial_s;
  if (!mdm_json_object(text, size, NAMES, it) || mdm_json_text(&it[0], id, sizeof id) != 16) return false;
  if (!mdm_from_hex(id, 8, bytes) || !mdm_json_count(&it[1], 86400, &trial_s) || trial_s == 0) return false;
  if (memcmp(m->profiles.marks[in_use(m)].id, id, sizeof id) == 0) return true;
  /* One trial at a time; the profile is sent again. */
  if (mdm_on_place_trial(m) || mdm_on_image_trial(m) || mdm_on_config_trial(m)) return true;
  char *profile = (char *)(uintptr_t)it[2].at;
  size_t length = it[2].size;
  if (it[2].kind != '{') profile = it[3].kind == '"' ? mdm_unseal(m, (char *)(uintptr_t)it[3].at, it[3].size, &length) : NULL;
  if (profile == NULL || !mdm_check_place(m, profile, length, &place) || (place.use_token && !m->facts->has_tokens)) {
    reject(m, id);
    return true;
  }
  m->next_mark = place.mark;
  memcpy(m->next_mark.id, id, sizeof id);
  m->next_trial_s = (uint32_t)trial_s;
  m->document_at = (size_t)(profile - m->buffer);
  m->document_size = length;
  mdm_do(m, W_PLACE);
  return true;
}

/* The package is loaded now: at a start, other records were read since it was found to be new. */
bool mdm_store_place(struct mdm *m, struct mdm_action *action) {
  bool is_package = m->next_trial_s == 0;
  int32_t size = is_package ? mdm_load(m, "package") : (int32_t)m->document_size;
  if (size <= 0) {
    mdm_do(m, W_RESTART);
    return false;
  }
  action->kind = MDM_STORE;
  action->name = record(free_place(m));
  action->data = m->buffer + (is_package ? 0 : m->document_at);
  action->size = (size_t)size;
  return true;
}

/* A package with another profile than the last one takes the first place. */
static void begin_package(struct mdm *m, uint8_t fresh) {
  uint8_t first = m->profiles.places[PLACE_FIRST];
  m->profiles.marks[PACKAGE] = m->next_mark;
  if (first != 0 && memcmp(m->profiles.marks[first].print, m->next_mark.print, sizeof m->next_mark.print) == 0) {
    m->profiles.places[PLACE_FIRST] = fresh; /* only the id is another one */
    m->profiles.turn = PLACE_FIRST;
    m->profiles.starts = 0;
  } else {
    replace(m, fresh);
    m->profiles.works = m->profiles.places[PLACE_FALLBACK] == 0 ? 0 : PLACE_FALLBACK + 1;
  }
}

/* The record is written, and nothing names it yet; `ok` is false if it has no room. */
void mdm_stored_place(struct mdm *m, bool ok) {
  struct mdm_place place;
  uint8_t fresh = free_place(m);
  bool is_package = m->next_trial_s == 0;
  if (is_package && !ok) {
    mdm_fail(m);
    return;
  }
  if (!is_package && (!ok || !mdm_load_place(m, record(fresh), m->capacity, &place) ||
                      (place.ca_certificate != NULL && m->port->can_trust != NULL &&
                       !m->port->can_trust(m->port->context, place.ca_certificate)))) {
    reject(m, m->next_mark.id);
    return;
  }
  m->profiles.marks[fresh] = m->next_mark;
  mdm_do(m, W_PLACES);
  if (is_package) {
    begin_package(m, fresh);
    return;
  }
  /* The offer came over the profile in use, which therefore works. */
  m->profiles.places[PLACE_TRIAL] = fresh;
  m->profiles.works = (uint8_t)(m->profiles.turn + 1);
  m->profiles.starts = 0;
  m->timers[T_START] = 0;
  begin_turn(m);
  mdm_set_timer(m, T_PLACE_TRIAL, m->next_trial_s * 1000);
  mdm_log_in_anew(m);
}

static void put_id(const struct mdm *m, struct mdm_out *out, const char *name, uint8_t place) {
  if (place != 0) mdm_put_field(out, name, m->profiles.marks[place].id);
}

void mdm_put_connection(const struct mdm *m, struct mdm_out *out) {
  mdm_put_key(out, "connection");
  mdm_put_text(out, "{");
  put_id(m, out, "first", m->profiles.places[PLACE_FIRST]);
  put_id(m, out, "fallback", m->profiles.places[PLACE_FALLBACK]);
  put_id(m, out, "in_use", in_use(m));
  if (m->profiles.refused_outcome != 0) {
    bool rejected = m->profiles.refused_outcome == REJECTED;
    mdm_put_key(out, "refused");
    mdm_put_text(out, "{");
    mdm_put_field(out, "connection_id", m->profiles.refused_id);
    mdm_put_field(out, "outcome", rejected ? "rejected" : "reverted");
    mdm_put_field(out, "reason", rejected ? "this firmware cannot use it" : "no answer in time, or a restart");
    mdm_put_text(out, "}");
  }
  mdm_put_text(out, "}");
}
