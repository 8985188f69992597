/* Devices that sleep between two connections: protocol.md, Devices that sleep. A wake-up is a start. */
#include "core.h"

enum { QUIET_MS = 2000, AWAKE_MS = 3 * 60 * 1000, SOON_MS = 30 * 60 * 1000 };

/* Whether something is in progress, or waits for its answer: what was answered is sent again in an hour. */
static bool is_busy(const struct mdm *m) {
  if (m->work != 0 || m->busy != 0 || m->sending > 0 || m->running > 0 || m->download_phase > 0) return true;
  if (m->slots.second.secret[0] != '\0' || mdm_on_config_trial(m) || mdm_on_image_trial(m) || mdm_on_place_trial(m)) return true;
  for (unsigned message = 0; message < P_COUNT; message++)
    if (m->timers[message] != 0 && (int32_t)(m->timers[message] - (uint32_t)m->now) < (int32_t)mdm_pause(m, SOON_MS)) return true;
  return false;
}

uint32_t mdm_rest(struct mdm *m, uint32_t next) {
  if (m->facts->wake_interval_s == 0 || m->stopping) return next;
  bool is_quiet = mdm_is_online(m) && !is_busy(m);
  uint32_t limit = mdm_pause(m, is_quiet ? QUIET_MS : AWAKE_MS), idle = (uint32_t)(m->now - m->active_at);
  if (idle < limit) return limit - idle < next ? limit - idle : next;
  m->sleeps = true;
  mdm_stop(m);
  return 0;
}
