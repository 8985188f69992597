#include "actions.h"

#include "broker.h"

static struct mdm *device;

void mdm_actions_begin(struct mdm *m) {
  device = m;
  mdm_broker_begin(m);
}

/* What concerns the flash; returns false for anything else. */
static bool carry_out_on_flash(const struct mdm_action *action) {
  uint8_t sha256[32] = {0};
  switch (action->kind) {
    case MDM_STORE:
      mdm_on_done(device, mdm_records_store(action->name, action->data, action->size));
      return true;
    case MDM_ERASE:
      mdm_on_done(device, mdm_app_erase(action->offset, action->size));
      return true;
    case MDM_WRITE:
      mdm_on_done(device, mdm_app_write(action->offset, action->data, action->size));
      return true;
    case MDM_VERIFY:
      (void)mdm_app_hash(action->size, sha256); /* zeros, if it fails, are no image's */
      mdm_on_verified(device, sha256);
      return true;
    case MDM_BOOT:
      mdm_on_done(device, mdm_app_select());
      return true;
    case MDM_KEEP_IMAGE:
      mdm_on_done(device, mdm_app_keep());
      return true;
    case MDM_ROLL_BACK:
      mdm_app_roll_back();
      return true;
    case MDM_ERASE_DUMP:
      mdm_on_done(device, mdm_dump_erase());
      return true;
    default:
      return false;
  }
}

static void carry_out(const struct mdm_action *action) {
  if (carry_out_on_flash(action)) return;
  switch (action->kind) {
    case MDM_APPLY:
      mdm_on_configured(device, mdm_handlers_apply(action));
      break;
    case MDM_RUN:
      mdm_handlers_run(device, action);
      break;
    case MDM_PUBACK:
      mdm_broker_acknowledge();
      break;
    case MDM_CONNECT:
      if (mdm_board_join(&action->login)) {
        mdm_broker_connect(&action->login);
      } else {
        mdm_on_lost(device);
      }
      break;
    case MDM_SUBSCRIBE:
      mdm_broker_subscribe(action->topic);
      break;
    case MDM_PUBLISH:
      mdm_broker_publish(action);
      break;
    case MDM_DISCONNECT:
      mdm_broker_leave();
      break;
    case MDM_SLEEP:
      mdm_board_sleep(device->facts->wake_interval_s);
      break;
    default: /* MDM_RESTART */
      mdm_board_restart();
  }
}

void mdm_carry_out_all(void) {
  static struct mdm_action action;
  while (mdm_next(device, &action)) carry_out(&action);
}

void mdm_take_turn(uint32_t longest_ms) {
  (void)mdm_tick(device, mdm_line_now_ms());
  mdm_carry_out_all();
  uint32_t wait_ms = mdm_tick(device, mdm_line_now_ms());
  if (wait_ms > longest_ms) wait_ms = longest_ms;
  if (mdm_line_is_open()) {
    mdm_broker_receive(wait_ms, mdm_carry_out_all);
  } else {
    mdm_board_wait(wait_ms);
  }
}
