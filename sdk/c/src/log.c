/* Lines for up/log, kept in memory until the broker has them: level, milliseconds since the start, tag, text. */
#include "core.h"

enum { HEAD = 7, LINE_MAX = 200, LINES_MAX = 50 };

static size_t size_of(const char *line) { return HEAD + strlen(line + HEAD) + 1 + strlen(line + HEAD + strlen(line + HEAD) + 1) + 1; }

static void drop_oldest(struct mdm *m) {
  size_t size = size_of(m->log);
  memmove(m->log, m->log + size, m->log_size - size);
  m->log_size = (uint16_t)(m->log_size - size);
  m->log_first++;
}

void mdm_log(struct mdm *m, enum mdm_level level, const char *tag, const char *text) {
  size_t tag_size = strlen(tag), text_size = strlen(text);
  if (tag_size > 31) tag_size = 31;
  if (text_size > LINE_MAX) text_size = LINE_MAX;
  size_t size = HEAD + tag_size + text_size + 2;
  while (m->log_size + size > MDM_LOG_BYTES) drop_oldest(m);
  struct mdm_out out = {m->log + m->log_size, m->log + MDM_LOG_BYTES, false};
  uint64_t uptime = m->now - m->started_at;
  mdm_put_u64(&out, (uint64_t)level, 1);
  mdm_put_u64(&out, uptime, HEAD - 1);
  mdm_put(&out, tag, tag_size);
  mdm_put(&out, "", 1);
  mdm_put(&out, text, text_size);
  mdm_put(&out, "", 1);
  m->log_size = (uint16_t)(m->log_size + size);
  if (mdm_is_online(m) && m->timers[P_LOG] == 0) mdm_say(m, P_LOG);
}

bool mdm_say_log(struct mdm *m, struct mdm_out *out) {
  static const char *const LEVELS[] = {"debug", "info", "warning", "error"};
  if (m->log_size == 0) return false;
  mdm_put_number(out, "boot", m->boot);
  mdm_put_number(out, "first", m->log_first);
  mdm_put_key(out, "lines");
  mdm_put_text(out, "[");
  m->log_sent = m->log_first;
  const char *end = m->log + m->log_size;
  for (const char *line = m->log; line < end && m->log_sent - m->log_first < LINES_MAX; line += size_of(line), m->log_sent++) {
    struct mdm_out before = *out;
    const uint8_t *head = (const uint8_t *)line;
    bool good = true;
    mdm_put_text(out, m->log_sent == m->log_first ? "{" : ",{");
    mdm_put_field(out, "level", LEVELS[mdm_take_u64(&head, head + HEAD, 1, &good) & 3]);
    mdm_put_field(out, "tag", line + HEAD);
    mdm_put_field(out, "message", line + HEAD + strlen(line + HEAD) + 1);
    mdm_put_number(out, "uptime_ms", mdm_take_u64(&head, head + HEAD, HEAD - 1, &good));
    mdm_put_text(out, "}]}"); /* the end must still fit */
    if (out->full) {
      *out = before;
      break;
    }
    out->at -= 2;
  }
  mdm_put_text(out, "]");
  return m->log_sent != m->log_first;
}

void mdm_said_log(struct mdm *m) {
  while (m->log_size > 0 && m->log_first < m->log_sent) drop_oldest(m);
  if (m->log_size > 0) mdm_say(m, P_LOG);
}
