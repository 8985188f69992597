/* Carries out the core's actions, alike on all ports: what concerns the broker by broker.h, and what concerns the board by
 * the functions below, which the port provides. */
#ifndef MDM_ACTIONS_H
#define MDM_ACTIONS_H
#include "mdm.h"

void mdm_actions_begin(struct mdm *m);
void mdm_carry_out_all(void);
/* One round: carries out what is due, and waits at most `longest_ms` for the network. */
void mdm_take_turn(uint32_t longest_ms);

/* ---- What the port provides; see enum mdm_kind of mdm.h ---- */

bool mdm_board_join(const struct mdm_login *login); /* its Wi-Fi; false: no network can be joined */
void mdm_board_wait(uint32_t ms);                   /* while there is no connection */
void mdm_board_restart(void);                       /* does not return */
void mdm_board_sleep(uint32_t seconds);             /* likewise */

bool mdm_records_store(const char *name, const void *data, size_t size);
const char *mdm_handlers_apply(const struct mdm_action *action); /* NULL: the configuration is in force, else why not */
void mdm_handlers_run(struct mdm *m, const struct mdm_action *action);

bool mdm_app_erase(uint32_t from, size_t size);
bool mdm_app_write(uint32_t offset, const void *data, size_t size);
bool mdm_app_hash(size_t size, uint8_t sha256[32]);
bool mdm_app_select(void);
bool mdm_app_keep(void);
void mdm_app_roll_back(void); /* does not return */
bool mdm_dump_erase(void);
#endif
