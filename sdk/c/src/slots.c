/* The device's rules of a rotation, without effects: device/rotation.py in C.
 *
 * Two slots: the first is confirmed, the second on trial. A login tries the second first while it is filled and falls
 * back to the first when the broker refuses it. A slot is emptied only when the server has said that its secret is not
 * in force, so in every interleaving of crash, loss, duplicate and delay one slot holds a secret that works. */
#include "core.h"

static bool filled(const struct mdm_slot *slot) { return slot->secret[0] != '\0'; }

bool mdm_holds(const struct mdm_slot *slot, const char *rotation_id) {
  return filled(slot) && strcmp(slot->rotation_id, rotation_id) == 0;
}

bool mdm_is_over(int64_t deadline_ms, int64_t now_ms) { return now_ms != 0 && deadline_ms <= now_ms; }

static bool settles(const struct mdm_slots *slots, uint64_t current_generation, enum mdm_change *change) {
  bool second = filled(&slots->second);
  if (second && current_generation == slots->second.generation) {
    *change = MDM_PROMOTE;
  } else if (current_generation != slots->first.generation) {
    return false;
  } else {
    *change = second ? MDM_DISCARD : MDM_KEEP;
  }
  return true;
}

enum mdm_verdict mdm_judge(const struct mdm_slots *slots, struct mdm_wanted *wanted, const struct mdm_offer *offer,
                           int64_t now_ms, enum mdm_change *change) {
  *change = MDM_KEEP;
  if (mdm_holds(&slots->second, offer->rotation_id)) return MDM_REPEATED;
  if (offer->generation <= slots->first.generation) return MDM_STALE;
  if (filled(&slots->second) && offer->generation <= slots->second.generation) return MDM_STALE;
  if (!settles(slots, offer->current_generation, change)) return MDM_FOREIGN;
  bool repeated = strcmp(wanted->rotation_id, offer->rotation_id) == 0;
  /* Generations only grow, so the lower one of two offers is the older one. */
  if (wanted->rotation_id[0] != '\0' && !repeated && offer->generation <= wanted->generation) return MDM_STALE;
  wanted->rotation_id[0] = '\0';
  if (mdm_is_over(offer->deadline_ms, now_ms)) return MDM_EXPIRED;
  memcpy(wanted->rotation_id, offer->rotation_id, sizeof wanted->rotation_id);
  wanted->generation = offer->generation;
  wanted->deadline_ms = offer->deadline_ms;
  return repeated ? MDM_REPEATED : MDM_ACCEPTED;
}

bool mdm_takes_secret(const struct mdm_slots *slots, const struct mdm_wanted *wanted, const char *rotation_id,
                      uint64_t generation, int64_t now_ms) {
  return wanted->rotation_id[0] != '\0' && !filled(&slots->second) && !mdm_is_over(wanted->deadline_ms, now_ms) &&
         strcmp(wanted->rotation_id, rotation_id) == 0 && wanted->generation == generation;
}

enum mdm_due mdm_due(const struct mdm_slots *slots, const struct mdm_wanted *wanted, uint64_t login, int64_t now_ms) {
  if (filled(&slots->second)) {
    if (login == slots->second.generation) return MDM_ACK;
    return login == slots->first.generation ? MDM_STORED : MDM_NOTHING;
  }
  return wanted->rotation_id[0] != '\0' && !mdm_is_over(wanted->deadline_ms, now_ms) ? MDM_REQUEST : MDM_NOTHING;
}

/* A secret in the package that is newer than the first slot's and not in the second is tried last. */
bool mdm_has_spare(const struct mdm_slots *slots, uint64_t package_generation) {
  return package_generation > slots->first.generation &&
         !(filled(&slots->second) && slots->second.generation == package_generation);
}

bool mdm_is_orphan(const struct mdm_slots *slots, uint64_t login) {
  return login != slots->first.generation && !(filled(&slots->second) && login == slots->second.generation);
}

void mdm_change_slots(struct mdm_slots *slots, enum mdm_change change) {
  if (change == MDM_KEEP || !filled(&slots->second)) return;
  if (change == MDM_PROMOTE) slots->first = slots->second;
  memset(&slots->second, 0, sizeof slots->second);
}

static void set(struct mdm_slot *slot, const char *secret, uint64_t generation) {
  memset(slot, 0, sizeof *slot);
  memcpy(slot->secret, secret, strlen(secret));
  slot->generation = generation;
}

/* The server has confirmed the package's generation: older secrets are not in force. */
void mdm_adopt(struct mdm_slots *slots, const char *secret, uint64_t generation) {
  set(&slots->first, secret, generation);
  if (slots->second.generation <= generation) memset(&slots->second, 0, sizeof slots->second);
}

/* A recovered secret is put on trial, and confirmed by a login. */
void mdm_recover_slots(struct mdm_slots *slots, const char *secret, uint64_t generation) {
  if (strcmp(slots->first.secret, secret) == 0) {
    slots->first.generation = generation;
    memset(&slots->second, 0, sizeof slots->second);
  } else if (strcmp(slots->second.secret, secret) == 0) {
    slots->second.generation = generation;
  } else {
    set(&slots->second, secret, generation);
  }
}

bool mdm_is_secret(const char *text, size_t size) {
  if (size < 32 || size > MDM_SECRET_MAX) return false;
  for (size_t i = 0; i < size; i++)
    if (text[i] < 0x21 || text[i] > 0x7E) return false;
  return true;
}
