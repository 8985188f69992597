/* An image on trial, and what became of it. The record says which image was chosen and what is to be reported; the
 * bootloader's own record says which one runs. Never confirmed means rolled back, whoever did it. */
#include "core.h"

enum { TRIAL_MS = 120000 };
enum state { NO_IMAGE, CHOSEN, SELECTED, CONFIRMED, ROLLED_BACK };
enum reason { RESTARTED, NOT_ANSWERED };

static void set_state(struct mdm *m, enum state state) {
  m->image.state = (uint8_t)state;
  mdm_do(m, W_IMAGE);
}

bool mdm_is_refused_image(const struct mdm *m, const uint8_t sha256[32]) {
  for (size_t i = 0; i < MDM_REFUSED_IMAGES; i++)
    if (memcmp(m->image.refused[i], sha256, 32) == 0) return true;
  return false;
}

static void refuse(struct mdm *m) {
  if (mdm_is_refused_image(m, m->image.sha256)) return;
  memmove(m->image.refused[1], m->image.refused[0], sizeof m->image.refused - 32);
  memcpy(m->image.refused[0], m->image.sha256, 32);
}

bool mdm_on_image_trial(const struct mdm *m) { return m->facts->on_trial && !m->kept; }

void mdm_begin_image(struct mdm *m) {
  bool tried = m->image.state == CHOSEN || m->image.state == SELECTED, runs = m->facts->slot == m->image.slot;
  if (m->facts->on_trial) mdm_set_timer(m, T_IMAGE_TRIAL, mdm_pause(m, TRIAL_MS));
  if (tried && runs && !m->facts->on_trial) {
    set_state(m, CONFIRMED); /* the power was cut between the two records */
  } else if (tried && !runs && m->image.state == CHOSEN) {
    set_state(m, NO_IMAGE); /* before it could be started */
  } else if (tried && !runs) {
    refuse(m);
    set_state(m, ROLLED_BACK);
  }
}

void mdm_connected_image(struct mdm *m) {
  static const char *const REASONS[] = {"was started without being confirmed", "was not connected and answered in time"};
  if (m->image.state == CONFIRMED) mdm_report_image(m, m->image.sha256, "confirmed", NULL);
  if (m->image.state == ROLLED_BACK)
    mdm_report_image(m, m->image.sha256, "rolled_back", REASONS[m->image.reason == NOT_ANSWERED]);
}

/* Keeps the image on trial if it can connect, is answered, and has tested itself. */
void mdm_check_image(struct mdm *m) {
  if (!mdm_on_image_trial(m) || !m->was_answered || (m->facts->self_tested && !m->is_healthy)) return;
  mdm_do(m, W_KEEP_IMAGE);
}

void mdm_healthy(struct mdm *m) {
  m->is_healthy = true;
  mdm_check_image(m);
}

void mdm_kept_image(struct mdm *m) {
  m->kept = true;
  m->timers[T_IMAGE_TRIAL] = 0;
  if (m->image.state == CHOSEN || m->image.state == SELECTED) {
    set_state(m, CONFIRMED);
    mdm_connected_image(m);
  }
  mdm_ask_firmware(m); /* offers during the trial had to be ignored */
}

void mdm_image_trial_ends(struct mdm *m) {
  if (!mdm_on_image_trial(m)) return;
  m->image.reason = NOT_ANSWERED;
  mdm_do(m, W_IMAGE);
  mdm_do(m, W_ROLL_BACK);
}

/* A verified image: chosen in our record first, then selected in the bootloader's. */
void mdm_choose_image(struct mdm *m, const uint8_t sha256[32]) {
  memcpy(m->image.sha256, sha256, 32);
  m->image.slot = (uint8_t)(1 - m->facts->slot);
  m->image.reason = RESTARTED;
  set_state(m, CHOSEN);
  mdm_do(m, W_BOOT);
}

void mdm_booted_image(struct mdm *m, bool ok) { set_state(m, ok ? SELECTED : NO_IMAGE); }

void mdm_said_outcome(struct mdm *m) {
  if (m->image.state >= CONFIRMED) set_state(m, NO_IMAGE);
}
