/* Messages from the broker: put together from their parts, and passed to the part of the core that knows them. */
#include "core.h"

static const struct {
  const char *topic; /* below down/ */
  bool (*handle)(struct mdm *m, char *text, size_t size); /* false: the message breaks a rule */
} ROUTES[] = {
    {"config", mdm_on_config},
    {"key", mdm_on_key},
    {"rotation/offer", mdm_on_offer},
    {"rotation/secret", mdm_on_secret},
    {"rotation/switch", mdm_on_switch},
    {"rotation/done", mdm_on_rotated},
    {"rotation/cancelled", mdm_on_cancelled},
    {"connection", mdm_on_connection},
    {"firmware/offer", mdm_on_firmware_offer},
    {"firmware/cancelled", mdm_on_firmware_cancelled},
    {"command", mdm_on_command},
    {"coredump/wanted", mdm_on_dump_wanted},
    {"coredump/stored", mdm_on_dump_stored},
    {"coredump/refused", mdm_on_dump_refused},
};
enum { ROUTE_COUNT = sizeof ROUTES / sizeof ROUTES[0], TO_CONFIG = 0, UNKNOWN = 0xFF, ANSWER = 0xFE, PIECE = 0xFD };

/* Returns what is behind `prefix`, or NULL. */
static const char *behind(const char *topic, size_t size, const char *prefix) {
  size_t length = strlen(prefix);
  return size >= length && memcmp(topic, prefix, length) == 0 ? topic + length : NULL;
}

static uint8_t route_of(struct mdm *m, const char *topic, size_t size) {
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  if (m->purpose != AS_DEVICE) {
    mdm_put_side_topic(m, &out, true);
    return size == (size_t)(out.at - m->out) - 1 && memcmp(topic, m->out, size) == 0 ? ANSWER : UNKNOWN;
  }
  mdm_put_topic(m, &out, "/down/", "");
  const char *rest = behind(topic, size, m->out);
  if (rest == NULL) return UNKNOWN;
  size -= (size_t)(rest - topic);
  for (uint8_t i = 0; i < ROUTE_COUNT; i++)
    if (strlen(ROUTES[i].topic) == size && memcmp(ROUTES[i].topic, rest, size) == 0) return i;
  const char *piece = behind(rest, size, "firmware/chunk/");
  return piece != NULL && mdm_is_next_piece(m, piece, size - (size_t)(piece - rest), m->total) ? PIECE : UNKNOWN;
}

static void handle(struct mdm *m) {
  bool good;
  m->buffer[m->total] = '\0';
  if (m->route == ANSWER) {
    good = (m->purpose == TO_RECOVER ? mdm_on_recover_answer : mdm_on_claim_answer)(m, m->buffer, m->total);
  } else {
    good = ROUTES[m->route].handle(m, m->buffer, m->total);
  }
  if (!good) mdm_log(m, MDM_WARNING, "refused", m->route == ANSWER ? "answer" : ROUTES[m->route].topic);
}

bool mdm_on_message(struct mdm *m, const char *topic, size_t topic_size, const void *data, size_t size, size_t offset,
                    size_t total) {
  if (m->phase != ONLINE) return true; /* of a connection that has ended */
  if (m->work != 0 || m->busy != 0) return false;
  m->active_at = m->now;
  if (offset == 0) {
    m->received = 0;
    m->total = total;
    m->route = route_of(m, topic, topic_size);
    if (total >= m->capacity && m->route != PIECE) {
      if (m->route == TO_CONFIG) mdm_config_is_too_large(m);
      m->route = UNKNOWN;
    }
  }
  if (offset != m->received || total != m->total || size > total - offset) return true; /* it comes again */
  m->received += size;
  if (m->route == PIECE && mdm_on_piece(m, data, size, offset)) return true; /* acknowledged when it is written */
  if (m->route == PIECE) m->route = UNKNOWN;
  if (m->route != UNKNOWN && size > 0) memcpy(m->buffer + offset, data, size);
  if (m->received < total) return true;
  if (m->route != UNKNOWN) handle(m);
  mdm_do(m, W_PUBACK);
  return true;
}
