/* Connection profiles: where to connect is proven like a secret; device/connection.py in C. Three records have a profile
 * each, also the package's, and one more has their use. What worked last is never dropped: it is the first or the
 * fall-back, and both have their turn. */
#include "core.h"

enum { VERSION = 1, HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS, START_MS = 10000, STARTS_MAX = 6 };
enum { NO_PLACE = 0xFF, REJECTED = 1, REVERTED = 2, PACKAGE = MDM_PLACES };
enum { TURN = PLACE_TRIAL + 1, WORKS, STARTS }; /* what `places` has behind the records' numbers; the first two: a place */

void mdm_put_places(struct mdm *m, struct mdm_out *out) {
  mdm_put_u64(out, VERSION, 1);
  mdm_put(out, m->places, sizeof m->places);
  mdm_put(out, m->marks, sizeof m->marks);
  mdm_put(out, m->refused_place, sizeof m->refused_place);
  mdm_put_u64(out, m->refused_outcome, 1);
}

bool mdm_load_places(struct mdm *m) {
  const uint8_t *at, *end;
  int there = mdm_load_record(m, "places", VERSION, &at, &end);
  bool good = true;
  memset(m->places, NO_PLACE, sizeof m->places);
  memset(m->marks, 0, sizeof m->marks);
  m->places[TURN] = PLACE_FIRST;
  m->places[STARTS] = 0;
  m->refused_outcome = 0;
  if (there <= 0) return there == 0;
  mdm_take(&at, end, m->places, sizeof m->places, &good);
  mdm_take(&at, end, m->marks, sizeof m->marks, &good);
  mdm_take(&at, end, m->refused_place, sizeof m->refused_place, &good);
  m->refused_outcome = (uint8_t)mdm_take_u64(&at, end, 1, &good);
  for (unsigned i = 0; i < TURN; i++) good = good && (m->places[i] < MDM_PLACES || m->places[i] == NO_PLACE);
  uint8_t turn = m->places[TURN], works = m->places[WORKS];
  if (!good || at != end || turn > PLACE_FALLBACK || m->places[PLACE_FIRST] == NO_PLACE) return false;
  return m->places[turn] != NO_PLACE && (works == NO_PLACE || (works <= PLACE_FALLBACK && m->places[works] != NO_PLACE));
}

bool mdm_on_place_trial(const struct mdm *m) { return m->places[PLACE_TRIAL] != NO_PLACE; }

static uint8_t in_use(const struct mdm *m) { return m->places[mdm_on_place_trial(m) ? PLACE_TRIAL : m->places[TURN]]; }

static const char *record(uint8_t place) {
  static const char *const RECORDS[] = {"place0", "place1", "place2"};
  return RECORDS[place < MDM_PLACES ? place : 0];
}

const char *mdm_place_in_use(const struct mdm *m) { return record(in_use(m)); }

/* A record that is neither the first nor the fall-back. */
static uint8_t free_place(const struct mdm *m) {
  uint8_t place = 0;
  while (place == m->places[PLACE_FIRST] || place == m->places[PLACE_FALLBACK]) place++;
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
  memcpy(m->refused_place, id, sizeof m->refused_place);
  m->refused_outcome = outcome;
  mdm_do(m, W_PLACES);
}

static void revert(struct mdm *m) {
  refuse(m, m->marks[m->places[PLACE_TRIAL]].id, REVERTED);
  m->places[PLACE_TRIAL] = NO_PLACE;
  m->timers[T_PLACE_TRIAL] = 0;
  begin_turn(m);
  mdm_log(m, MDM_WARNING, "mdm", "the connection profile is reverted");
}

static void reject(struct mdm *m, const char *id) {
  if (m->refused_outcome == REJECTED && strcmp(m->refused_place, id) == 0) return; /* reported already */
  refuse(m, id, REJECTED);
  mdm_ask_config(m);
}

static bool has_other(const struct mdm *m) { return !mdm_on_place_trial(m) && m->places[PLACE_FALLBACK] != NO_PLACE; }

static void take_turns(struct mdm *m) {
  m->places[TURN] ^= PLACE_FIRST ^ PLACE_FALLBACK;
  m->places[STARTS] = 0;
  begin_turn(m);
  mdm_do(m, W_PLACES);
}

/* Makes a record the first; what worked last is its fall-back, and what never worked is dropped. */
static void replace(struct mdm *m, uint8_t place) {
  uint8_t worked = m->places[WORKS] == NO_PLACE ? NO_PLACE : m->places[m->places[WORKS]];
  if (worked != NO_PLACE && memcmp(m->marks[worked].print, m->marks[place].print, sizeof m->marks[0].print) == 0)
    worked = m->places[PLACE_FALLBACK]; /* only the id is another one */
  m->places[PLACE_FIRST] = place;
  m->places[PLACE_FALLBACK] = worked;
  m->places[TURN] = PLACE_FIRST;
  m->places[STARTS] = 0;
}

void mdm_begin_places(struct mdm *m) {
  struct mdm_place place;
  if (mdm_on_place_trial(m)) revert(m);
  begin_turn(m);
  mdm_set_timer(m, T_START, mdm_pause(m, START_MS));
  int32_t size = mdm_load(m, "package");
  if (size <= 0 || !mdm_check_place(m, m->buffer, (size_t)size, &place)) return;
  if (memcmp(&place.mark, &m->marks[PACKAGE], sizeof place.mark) != 0) {
    m->next_mark = place.mark;
    m->next_trial_s = 0;
    mdm_do(m, W_PLACE);
  } else if (has_other(m) && m->places[STARTS] >= STARTS_MAX) {
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
  if (!has_other(m) || m->places[STARTS] == UINT8_MAX) return;
  m->places[STARTS]++;
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
    uint8_t place = m->places[PLACE_TRIAL];
    replace(m, place);
    m->places[PLACE_TRIAL] = NO_PLACE;
    m->places[WORKS] = PLACE_FIRST;
    m->timers[T_PLACE_TRIAL] = 0;
    if (strcmp(m->refused_place, m->marks[place].id) == 0) m->refused_outcome = 0;
    mdm_ask_config(m); /* which reports it */
  } else if (m->places[WORKS] == m->places[TURN] && m->places[STARTS] == 0) {
    return;
  }
  m->places[WORKS] = m->places[TURN];
  m->places[STARTS] = 0;
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
  if (memcmp(m->marks[in_use(m)].id, id, sizeof id) == 0) return true;
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
  uint8_t first = m->places[PLACE_FIRST];
  m->marks[PACKAGE] = m->next_mark;
  if (first != NO_PLACE && memcmp(m->marks[first].print, m->next_mark.print, sizeof m->next_mark.print) == 0) {
    m->places[PLACE_FIRST] = fresh; /* only the id is another one */
    m->places[TURN] = PLACE_FIRST;
    m->places[STARTS] = 0;
  } else {
    replace(m, fresh);
    m->places[WORKS] = m->places[PLACE_FALLBACK] == NO_PLACE ? NO_PLACE : PLACE_FALLBACK;
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
  m->marks[fresh] = m->next_mark;
  mdm_do(m, W_PLACES);
  if (is_package) {
    begin_package(m, fresh);
    return;
  }
  /* The offer came over the profile in use, which therefore works. */
  m->places[PLACE_TRIAL] = fresh;
  m->places[WORKS] = m->places[TURN];
  m->places[STARTS] = 0;
  m->timers[T_START] = 0;
  begin_turn(m);
  mdm_set_timer(m, T_PLACE_TRIAL, m->next_trial_s * 1000);
  mdm_log_in_anew(m);
}

static void put_id(const struct mdm *m, struct mdm_out *out, const char *name, uint8_t place) {
  if (place != NO_PLACE) mdm_put_field(out, name, m->marks[place].id);
}

void mdm_put_connection(const struct mdm *m, struct mdm_out *out) {
  mdm_put_key(out, "connection");
  mdm_put_text(out, "{");
  put_id(m, out, "first", m->places[PLACE_FIRST]);
  put_id(m, out, "fallback", m->places[PLACE_FALLBACK]);
  put_id(m, out, "in_use", in_use(m));
  if (m->refused_outcome != 0) {
    bool rejected = m->refused_outcome == REJECTED;
    mdm_put_key(out, "refused");
    mdm_put_text(out, "{");
    mdm_put_field(out, "connection_id", m->refused_place);
    mdm_put_field(out, "outcome", rejected ? "rejected" : "reverted");
    mdm_put_field(out, "reason", rejected ? "this firmware cannot use it" : "no answer in time, or a restart");
    mdm_put_text(out, "}");
  }
  mdm_put_text(out, "}");
}
