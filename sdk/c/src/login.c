/* Which secret to log in with, when, and where; and the recovery when all are refused. */
#include "core.h"

enum { REFUSED_MS = 5000, FIRST_PAUSE_MS = 1000, LONGEST_PAUSE_MS = 60000, STABLE_MS = 10000, CONNECT_MS = 60000, LATE = 7 };
enum candidate { SECOND, FIRST, SPARE, RECOVERY, NAMED, NONE };

static bool is_there(const struct mdm *m, unsigned candidate) {
  switch ((enum candidate)candidate) {
    case SECOND:
      return m->slots.second.secret[0] != '\0';
    case FIRST:
      return true;
    case SPARE:
      return mdm_has_spare(&m->slots, m->package_generation);
    case RECOVERY:
      return m->recovery.port != 0;
    case NAMED: /* the port that the server named last may be another one */
      return m->recovery.port != 0 && m->recovery.port != m->asked_port;
    case NONE:
      break;
  }
  return false;
}

static void try_from(struct mdm *m, unsigned candidate) {
  while (candidate < NONE && !is_there(m, candidate)) candidate++;
  m->candidate = (uint8_t)candidate;
}

static void connect_in(struct mdm *m, uint32_t ms) {
  m->phase = IDLE;
  m->purpose = AS_DEVICE;
  m->sending = 0;
  m->work &= ~(1U << W_PUBACK | 1U << W_SUBSCRIBE | 1U << W_CONNECT);
  m->timers[T_ANSWER] = m->timers[T_CONNECT] = 0;
  if (m->stopping) return;
  if (ms > 0) {
    mdm_set_timer(m, T_CONNECT, ms);
  } else {
    mdm_do(m, W_CONNECT);
  }
}

/* Growing pauses with a random part, since a whole fleet may have lost its broker. */
static void connect_later(struct mdm *m, unsigned failures) {
  uint32_t pause = LONGEST_PAUSE_MS;
  uint8_t random = 0;
  if (failures < 1) failures = 1;
  if (failures <= 6 && (uint32_t)FIRST_PAUSE_MS << (failures - 1) < pause) pause = (uint32_t)FIRST_PAUSE_MS << (failures - 1);
  if (!m->port->random(m->port->context, &random, 1)) random = (uint8_t)m->now;
  connect_in(m, mdm_pause(m, pause / 2 + pause / 2 * random / 255));
}

/* Tries the next secret, or the next way to recover; false: there is none. */
static bool try_next(struct mdm *m) {
  try_from(m, m->purpose == TO_CLAIM ? (unsigned)NONE : m->candidate + 1U);
  if (m->candidate != NONE) connect_in(m, 0);
  return m->candidate != NONE;
}

void mdm_begin_login(struct mdm *m) {
  try_from(m, SECOND);
  connect_in(m, 0);
}

void mdm_log_in_anew(struct mdm *m) { mdm_do(m, W_LEAVE); }

/* A device for both kinds of broker: after a token, the secret of the same slot. */
static bool try_secret(struct mdm *m) {
  m->token_failed = m->facts->either && m->by_token && m->phase == CONNECTING && !m->stopping;
  if (m->token_failed) connect_in(m, 0);
  return m->token_failed;
}

void mdm_on_lost(struct mdm *m) {
  bool was_online = mdm_is_online(m);
  if (m->phase == IDLE) return;
  if (m->restarts) mdm_restart(m); /* it has said all that it could */
  if (try_secret(m)) return;
  if (was_online) mdm_place_is_lost(m);
  if (was_online && m->now - m->begun_at >= STABLE_MS) {
    m->failures = 0;
  } else if (m->failures < UINT16_MAX) {
    m->failures++;
  }
  if (m->purpose == TO_RECOVER && try_next(m)) return;
  if (was_online || m->purpose != AS_DEVICE) try_from(m, SECOND); /* else the same secret again: an outage */
  if (!was_online) {
    connect_later(m, m->failures);
  } else if (m->failures > 1) {
    connect_later(m, m->failures - 1U);
  } else {
    connect_in(m, 0); /* the broker may have dropped us to demand the new secret */
  }
  if (m->stopping) mdm_leave(m);
}

void mdm_on_refused(struct mdm *m) {
  if (m->phase != CONNECTING) return;
  if (try_secret(m)) return;
  m->refused_until = m->now + mdm_pause(m, REFUSED_MS);
  if (try_next(m)) return;
  mdm_log(m, MDM_WARNING, "mdm", "the broker refused every secret");
  if (m->failures < UINT16_MAX) m->failures++;
  try_from(m, SECOND);
  connect_later(m, m->purpose == TO_CLAIM ? LATE : m->failures); /* a claim: a person may resolve it */
}

/* The login of a recovery or a claim: a public account, for one question. */
static void connect_aside(struct mdm *m, struct mdm_login *login) {
  if (m->purpose == TO_RECOVER) {
    mdm_new_id(m, m->nonce, 16);
    login->client_id = m->recovery.account;
  } else {
    login->client_id = m->client_id;
  }
  login->username = m->recovery.account;
  login->password = m->recovery.password;
  login->clean_session = true;
}

static void connect_as_device(struct mdm *m, struct mdm_login *login, const struct mdm_place *package) {
  const struct mdm_slot *slot = m->candidate == SECOND ? &m->slots.second : &m->slots.first;
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  m->login = slot->generation;
  login->client_id = login->username = m->client_id;
  login->password = slot->secret;
  if (m->candidate == SPARE) {
    m->login = m->package_generation;
    login->password = out.at;
    mdm_put(&out, package->secret, strlen(package->secret) + 1);
  }
  login->will_topic = out.at;
  mdm_put_topic(m, &out, "/up/", "status");
  login->will = out.at;
  mdm_put_text(&out, "{\"online\":false");
  mdm_put_number(&out, "secret_generation", m->login);
  mdm_put(&out, "}", 2);
}

/* Where the place names no networks, those of the package hold: they are kept behind the place. */
static bool load_place(struct mdm *m, const char *networks, struct mdm_login *login, struct mdm_place *place) {
  size_t size = networks == NULL ? 0 : strlen(networks) + 1;
  char *kept = m->buffer + m->capacity - size;
  if (size > 0) memmove(kept, networks, size);
  bool good = mdm_load_place(m, mdm_place_in_use(m), m->capacity - size, place);
  login->wifi = place->wifi == NULL && size > 0 ? kept : place->wifi;
  return good;
}

static bool fill_in(struct mdm *m, struct mdm_login *login) {
  struct mdm_place place;
  if (m->purpose == TO_CLAIM) {
    if (!mdm_load_claim(m, &place)) return false;
    login->wifi = place.wifi;
  } else {
    bool good = mdm_load_place(m, "package", m->capacity, &place);
    if (m->candidate == SPARE && (!good || place.secret == NULL)) return false;
    if (m->purpose == AS_DEVICE) connect_as_device(m, login, &place);
    if (!load_place(m, good ? place.wifi : NULL, login, &place)) return false;
  }
  if (m->purpose != AS_DEVICE) connect_aside(m, login);
  login->host = place.host;
  login->port = place.port;
  login->tls = place.tls;
  login->ca_certificate = place.ca_certificate;
  login->token_url = place.token_url;
  login->use_token = m->by_token = m->purpose == AS_DEVICE && !m->token_failed && place.token_url != NULL &&
                                   (place.use_token || m->facts->either);
  if (m->purpose == TO_RECOVER) {
    bool own = m->candidate == RECOVERY && place.recovery_port != 0;
    login->port = m->asked_port = own ? place.recovery_port : m->recovery.port;
  }
  return true;
}

bool mdm_connect(struct mdm *m, struct mdm_action *action) {
  bool claims = m->slots.first.secret[0] == '\0';
  m->purpose = claims ? TO_CLAIM : m->candidate >= RECOVERY ? TO_RECOVER : AS_DEVICE;
  m->phase = CONNECTING;
  mdm_set_timer(m, T_ANSWER, CONNECT_MS);
  action->kind = MDM_CONNECT;
  if (fill_in(m, &action->login)) return true;
  mdm_log(m, MDM_ERROR, "mdm", "the package or the profile cannot be read");
  mdm_on_lost(m);
  return false;
}

void mdm_on_connected(struct mdm *m) {
  if (m->phase != CONNECTING) return;
  m->phase = SUBSCRIBING;
  m->token_failed = false;
  m->begun_at = m->now;
  mdm_do(m, W_SUBSCRIBE);
}

bool mdm_subscribe(struct mdm *m, struct mdm_action *action) {
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  if (m->purpose == AS_DEVICE) {
    mdm_put_topic(m, &out, "/down/", "#");
  } else {
    mdm_put_side_topic(m, &out, true);
  }
  action->kind = MDM_SUBSCRIBE;
  action->topic = m->out;
  mdm_set_timer(m, T_ANSWER, mdm_pause(m, CONNECT_MS / 6));
  return true;
}

/* ---- Recovery ---- */

void mdm_put_side_topic(struct mdm *m, struct mdm_out *out, bool answer) {
  bool recovers = m->purpose == TO_RECOVER;
  mdm_put_text(out, recovers ? "mdm/v1/recover/" : "mdm/v1/claim/");
  mdm_put_text(out, m->recovery.account);
  mdm_put_text(out, answer ? "/answer/" : "/request");
  if (answer) mdm_put_text(out, recovers ? m->nonce : m->client_id);
  mdm_put(out, "", 1);
}

bool mdm_say_recover(struct mdm *m, struct mdm_out *out) {
  mdm_put_field(out, "client_id", m->client_id);
  mdm_put_field(out, "nonce", m->nonce);
  bool good = mdm_put_recovery_mac(m, out);
  return good;
}

bool mdm_on_recover_answer(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"jwe", NULL};
  struct mdm_json found[1];
  struct mdm_place place;
  size_t length;
  if (!mdm_json_object(text, size, NAMES, found) || found[0].kind != '"') return false;
  char *package = mdm_unseal(m, (char *)(uintptr_t)found[0].at, found[0].size, &length);
  if (package == NULL || !mdm_read_place(package, length, &place) || place.secret == NULL) return false;
  if (place.client_id == NULL || strcmp(place.client_id, m->client_id) != 0) return false;
  mdm_recover_slots(&m->slots, place.secret, place.secret_generation);
  mdm_do(m, W_IDENTITY);
  mdm_log(m, MDM_INFO, "mdm", "a secret is recovered");
  mdm_log_in_anew(m);
  return true;
}
