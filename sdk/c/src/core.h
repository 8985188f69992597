/* What the parts of the core share; nothing of it is for users of the library. */
#ifndef MDM_CORE_H
#define MDM_CORE_H
#include <string.h>

#include "mdm.h"

/* ---- text.c: writing, and small codings ---- */
struct mdm_out {
  char *at, *end;
  bool full; /* something did not fit */
};
void mdm_put(struct mdm_out *out, const void *data, size_t size);
void mdm_put_text(struct mdm_out *out, const char *text);
void mdm_put_count(struct mdm_out *out, uint64_t value);
void mdm_put_hex(struct mdm_out *out, const uint8_t *bytes, size_t size);
void mdm_put_base64url(struct mdm_out *out, const uint8_t *bytes, size_t size);
void mdm_put_quoted(struct mdm_out *out, const char *text, size_t size);
void mdm_put_key(struct mdm_out *out, const char *name);                       /* ,"name": */
void mdm_put_field(struct mdm_out *out, const char *name, const char *text);   /* nothing for NULL or "" */
void mdm_put_hash(struct mdm_out *out, const char *name, const uint8_t hash[32]);
void mdm_put_number(struct mdm_out *out, const char *name, uint64_t value);
void mdm_put_u64(struct mdm_out *out, uint64_t value, unsigned bytes); /* binary, little-endian, for records */
uint64_t mdm_take_u64(const uint8_t **at, const uint8_t *end, unsigned bytes, bool *good);
bool mdm_take(const uint8_t **at, const uint8_t *end, void *to, size_t size, bool *good);
/* Decodes into `to`, which may be the text itself; returns the number of bytes, or -1. */
int32_t mdm_from_base64url(const char *text, size_t size, uint8_t *to, size_t capacity);
bool mdm_from_hex(const char *text, size_t size, uint8_t *to);
bool mdm_from_time(const char *text, size_t size, int64_t *ms); /* RFC 3339 */
bool mdm_is_uuid(char text[37]);                                /* and puts it into lower case */

/* ---- json.c: reading (RFC 8259) ---- */
struct mdm_json {
  const char *at; /* of a string without its quotes */
  size_t size;
  char kind; /* { [ " 0 t f n, or 0: absent */
};
/* Finds members of the object that is the whole text; false if it is no such object. `names` end with NULL. */
bool mdm_json_object(const char *text, size_t size, const char *const *names, struct mdm_json *found);
/* Calls `each` for each value of an array; false if it is none, or `each` returns false. */
bool mdm_json_array(const struct mdm_json *array, bool (*each)(void *context, const struct mdm_json *it), void *context);
bool mdm_json_count(const struct mdm_json *it, uint64_t most, uint64_t *value); /* 0 to `most`, at most 2^63 - 1 */
/* Decodes a string into `to`, with a NUL; returns its length, or -1. `to` may be the string itself, see mdm_json_here. */
int32_t mdm_json_text(const struct mdm_json *it, char *to, size_t capacity);
char *mdm_json_here(const struct mdm_json *it); /* decodes it in place; NULL if it is no string */
bool mdm_json_is(const struct mdm_json *it, const char *text);
bool mdm_json_hash(const struct mdm_json *it, uint8_t hash[32]); /* 64 hexadecimal digits */

/* ---- seal.c: proofs and sealed texts ---- */
bool mdm_make_key(struct mdm *m);
bool mdm_public_key(struct mdm *m);
/* Hexadecimal HMAC-SHA256 over "word:text", a proof of protocol.md. */
bool mdm_put_proof(struct mdm *m, struct mdm_out *out, const char *name, const char *secret, const char *word,
                   const char *text);
bool mdm_put_recovery_mac(struct mdm *m, struct mdm_out *out); /* the member "mac" */
/* Opens a JWE for our key in place; returns the text with a NUL behind it, or NULL. */
char *mdm_unseal(struct mdm *m, char *jwe, size_t size, size_t *opened);

/* ---- slots.c: the device's rules of a rotation, pure ---- */
enum mdm_change { MDM_KEEP, MDM_PROMOTE, MDM_DISCARD };
enum mdm_verdict { MDM_ACCEPTED, MDM_REPEATED, MDM_STALE, MDM_EXPIRED, MDM_FOREIGN };
enum mdm_due { MDM_NOTHING, MDM_REQUEST, MDM_STORED, MDM_ACK };
struct mdm_offer {
  char rotation_id[37];
  uint64_t generation, current_generation;
  int64_t deadline_ms;
};
bool mdm_is_over(int64_t deadline_ms, int64_t now_ms);
enum mdm_verdict mdm_judge(const struct mdm_slots *slots, struct mdm_wanted *wanted, const struct mdm_offer *offer,
                           int64_t now_ms, enum mdm_change *change);
bool mdm_takes_secret(const struct mdm_slots *slots, const struct mdm_wanted *wanted, const char *rotation_id,
                      uint64_t generation, int64_t now_ms);
enum mdm_due mdm_due(const struct mdm_slots *slots, const struct mdm_wanted *wanted, uint64_t login, int64_t now_ms);
bool mdm_holds(const struct mdm_slot *slot, const char *rotation_id);
bool mdm_has_spare(const struct mdm_slots *slots, uint64_t package_generation);
bool mdm_is_orphan(const struct mdm_slots *slots, uint64_t login);
void mdm_change_slots(struct mdm_slots *slots, enum mdm_change change);
void mdm_adopt(struct mdm_slots *slots, const char *secret, uint64_t generation);
void mdm_recover_slots(struct mdm_slots *slots, const char *secret, uint64_t generation);
bool mdm_is_secret(const char *text, size_t size);

/* ---- engine.c, uplink.c, work.c ---- */
/* Work, done in this order; each is a bit of m->work. What uses a message where it lies comes first. */
enum mdm_work {
  W_RESULT,
  W_DOCUMENT,
  W_PLACE,
  W_PACKAGE,
  W_IDENTITY,
  W_CONFIG,
  W_PLACES,
  W_JOURNAL,
  W_IMAGE,
  W_PROGRESS,
  W_APPLY,
  W_ADOPT,
  W_RUN,
  W_ERASE,
  W_WRITE,
  W_VERIFY,
  W_BOOT,
  W_KEEP_IMAGE,
  W_ERASE_DUMP,
  W_PUBACK,
  W_LEAVE,
  W_DISCONNECT,
  W_ROLL_BACK,
  W_RESTART,
  W_SLEEP,
  W_CONNECT,
  W_SUBSCRIBE,
  W_COUNT
};
/* What is published, in this order of precedence. */
enum mdm_message {
  P_KEY,
  P_STATUS,
  P_CONFIG_GET,
  P_ROTATION,
  P_CONFIG_REPORT,
  P_IMAGE_REPORT,
  P_CHECK,
  P_CHUNK,
  P_RESULT,
  P_REFUSAL,
  P_LOG,
  P_VITALS,
  P_DUMP_CHUNK,
  P_DUMP_OFFER,
  P_RECOVER,
  P_CLAIM,
  P_COUNT
};
enum mdm_timer { T_CONNECT = P_COUNT, T_ANSWER, T_CONFIG_TRIAL, T_PLACE_TRIAL, T_IMAGE_TRIAL, T_PIECE, T_START, T_OFFLINE, T_SILENT, T_COUNT };
enum mdm_phase { IDLE, CONNECTING, SUBSCRIBING, ONLINE };
enum mdm_purpose { AS_DEVICE, TO_RECOVER, TO_CLAIM };

void mdm_do(struct mdm *m, enum mdm_work work);
void mdm_say(struct mdm *m, enum mdm_message message);
void mdm_set_timer(struct mdm *m, unsigned timer, uint32_t ms);
bool mdm_is_due(const struct mdm *m, unsigned timer);
uint32_t mdm_pause(const struct mdm *m, uint32_t ms);
void mdm_learn_time(struct mdm *m, const struct mdm_json *time, bool is_answer);
void mdm_new_id(struct mdm *m, char *id, size_t bytes); /* twice as many hexadecimal digits */
int32_t mdm_load(struct mdm *m, const char *name);      /* into m->buffer */
/* Loads a record of this version: 1, or 0: there is none, or -1: it cannot be read. */
bool mdm_load_records(struct mdm *m); /* those that are stored as they lie in memory */
int mdm_load_record(struct mdm *m, const char *name, uint8_t version, const uint8_t **at, const uint8_t **end);
void mdm_ask_in_an_hour(struct mdm *m, enum mdm_message message, char id[9]);
void mdm_restart(struct mdm *m);
bool mdm_may_say(const struct mdm *m, unsigned message); /* now, if it is due */
bool mdm_publish(struct mdm *m, unsigned message, struct mdm_action *action);
void mdm_fail(struct mdm *m); /* a record could not be written */
void mdm_put_topic(struct mdm *m, struct mdm_out *out, const char *way, const char *topic); /* with a NUL */
void mdm_leave(struct mdm *m);    /* without coming back */
void mdm_answered(struct mdm *m); /* our request of the configuration, over this connection */
void mdm_begin_talk(struct mdm *m);

/* ---- sleep.c ---- */
/* Falls asleep if it is time to, else returns the milliseconds until then, at most `next`. */
uint32_t mdm_rest(struct mdm *m, uint32_t next);

/* ---- place.c ---- */
/* The texts lie in the text that was read, and are NULL if absent. */
struct mdm_place {
  const char *host, *token_url, *ca_certificate, *wifi, *client_id, *secret;
  struct mdm_mark mark; /* mdm_check_place only */
  uint64_t secret_generation;
  struct mdm_json recovery;
  uint16_t port, recovery_port;
  bool tls, use_token, is_package;
};
bool mdm_read_place(char *text, size_t size, struct mdm_place *place);  /* changes the text */
bool mdm_check_place(struct mdm *m, const char *text, size_t size, struct mdm_place *place); /* does not; sets no texts */
bool mdm_load_place(struct mdm *m, const char *name, size_t capacity, struct mdm_place *place);
enum mdm_error mdm_use_package(struct mdm *m, bool is_new);

/* ---- login.c ---- */
void mdm_begin_login(struct mdm *m);
void mdm_log_in_anew(struct mdm *m); /* once all is stored and acknowledged */
bool mdm_connect(struct mdm *m, struct mdm_action *action);
bool mdm_subscribe(struct mdm *m, struct mdm_action *action);
void mdm_put_side_topic(struct mdm *m, struct mdm_out *out, bool answer); /* of a recovery or a claim, with a NUL */
bool mdm_say_recover(struct mdm *m, struct mdm_out *out);
bool mdm_on_recover_answer(struct mdm *m, char *text, size_t size);

/* ---- identity.c ---- */
enum mdm_error mdm_load_identity(struct mdm *m);
void mdm_put_identity(struct mdm *m, struct mdm_out *out);
void mdm_adopt_package(struct mdm *m);
void mdm_on_confirmed(struct mdm *m, uint64_t generation);
bool mdm_take_recovery(const struct mdm_json *it, struct mdm_recovery *recovery);
bool mdm_key_is_due(const struct mdm *m);
bool mdm_say_key(struct mdm *m, struct mdm_out *out);
const char *mdm_rotation_topic(const struct mdm *m); /* NULL: nothing is due */
bool mdm_say_rotation(struct mdm *m, struct mdm_out *out);
bool mdm_on_key(struct mdm *m, char *text, size_t size);
bool mdm_on_offer(struct mdm *m, char *text, size_t size);
bool mdm_on_secret(struct mdm *m, char *text, size_t size);
bool mdm_on_switch(struct mdm *m, char *text, size_t size);
bool mdm_on_rotated(struct mdm *m, char *text, size_t size);
bool mdm_on_cancelled(struct mdm *m, char *text, size_t size);

/* ---- config.c ---- */
void mdm_begin_config(struct mdm *m);
void mdm_connected_config(struct mdm *m);
void mdm_ask_config(struct mdm *m);
void mdm_config_trial_ends(struct mdm *m);
void mdm_config_is_too_large(struct mdm *m);
bool mdm_on_config_trial(const struct mdm *m);
const char *mdm_document_record(const struct mdm *m, bool next);
const char *mdm_document(struct mdm *m, size_t *size);
void mdm_stored_document(struct mdm *m);
void mdm_put_config_version(const struct mdm *m, struct mdm_out *out, const char *name);
bool mdm_on_config(struct mdm *m, char *text, size_t size);
bool mdm_say_config_get(struct mdm *m, struct mdm_out *out);
bool mdm_say_config_report(struct mdm *m, struct mdm_out *out);
void mdm_said_config_report(struct mdm *m);

/* ---- profile.c ---- */
enum { PLACE_FIRST, PLACE_FALLBACK, PLACE_TRIAL };
bool mdm_are_places_good(const struct mdm *m); /* as they were loaded */
void mdm_begin_places(struct mdm *m);
const char *mdm_place_in_use(const struct mdm *m);
void mdm_turn_ends(struct mdm *m);
void mdm_start_counts(struct mdm *m);
void mdm_place_is_connected(struct mdm *m);
void mdm_place_is_lost(struct mdm *m);
void mdm_place_is_asked(struct mdm *m);
void mdm_place_trial_ends(struct mdm *m);
void mdm_place_works(struct mdm *m);
bool mdm_on_place_trial(const struct mdm *m);
bool mdm_on_connection(struct mdm *m, char *text, size_t size);
bool mdm_store_place(struct mdm *m, struct mdm_action *action);
void mdm_stored_place(struct mdm *m, bool ok);
void mdm_put_connection(const struct mdm *m, struct mdm_out *out);

/* ---- claim.c ---- */
enum mdm_error mdm_begin_claim(struct mdm *m);
bool mdm_load_claim(struct mdm *m, struct mdm_place *place);
bool mdm_say_claim(struct mdm *m, struct mdm_out *out);
bool mdm_on_claim_answer(struct mdm *m, char *text, size_t size);

/* ---- image.c ---- */
void mdm_begin_image(struct mdm *m);
void mdm_connected_image(struct mdm *m);
bool mdm_on_image_trial(const struct mdm *m);
bool mdm_is_refused_image(const struct mdm *m, const uint8_t sha256[32]);
void mdm_check_image(struct mdm *m);
void mdm_kept_image(struct mdm *m);
void mdm_image_trial_ends(struct mdm *m);
void mdm_choose_image(struct mdm *m, const uint8_t sha256[32]);
void mdm_booted_image(struct mdm *m, bool ok);
void mdm_said_outcome(struct mdm *m);

/* ---- download.c ---- */
void mdm_put_progress(struct mdm *m, struct mdm_out *out);
void mdm_fetch(struct mdm *m, const uint8_t sha256[32], uint32_t size, uint32_t piece);
void mdm_stop_fetching(struct mdm *m, const uint8_t sha256[32]);
void mdm_connected_download(struct mdm *m);
void mdm_said_verifying(struct mdm *m);
void mdm_prepared_flash(struct mdm *m, bool ok);
bool mdm_is_next_piece(const struct mdm *m, const char *name, size_t size, size_t total);
bool mdm_on_piece(struct mdm *m, const uint8_t *data, size_t size, size_t offset);
void mdm_wrote_piece(struct mdm *m, bool ok);
void mdm_selected_image(struct mdm *m, bool ok);
bool mdm_say_chunk(struct mdm *m, struct mdm_out *out);
void mdm_said_chunk(struct mdm *m);

/* ---- firmware.c ---- */
void mdm_ask_firmware(struct mdm *m);
bool mdm_say_check(struct mdm *m, struct mdm_out *out);
bool mdm_on_firmware_offer(struct mdm *m, char *text, size_t size);
bool mdm_on_firmware_cancelled(struct mdm *m, char *text, size_t size);
void mdm_report_image(struct mdm *m, const uint8_t sha256[32], const char *stage, const char *error);
bool mdm_say_image_report(struct mdm *m, struct mdm_out *out);
void mdm_said_image_report(struct mdm *m);

/* ---- commands.c ---- */
bool mdm_on_command(struct mdm *m, char *text, size_t size);
bool mdm_run(struct mdm *m, struct mdm_action *action);
void mdm_store_result(struct mdm *m, struct mdm_action *action);
void mdm_stored_result(struct mdm *m);
bool mdm_say_result(struct mdm *m, struct mdm_out *out);
void mdm_said_result(struct mdm *m);
bool mdm_say_refusal(struct mdm *m, struct mdm_out *out);

/* ---- coredump.c ---- */
void mdm_connected_dump(struct mdm *m);
bool mdm_on_dump_wanted(struct mdm *m, char *text, size_t size);
bool mdm_on_dump_stored(struct mdm *m, char *text, size_t size);
bool mdm_on_dump_refused(struct mdm *m, char *text, size_t size);
bool mdm_say_dump_offer(struct mdm *m, struct mdm_out *out);
bool mdm_say_dump_chunk(struct mdm *m, struct mdm_out *out);
void mdm_said_dump_chunk(struct mdm *m);

/* ---- log.c ---- */
bool mdm_say_log(struct mdm *m, struct mdm_out *out);
void mdm_said_log(struct mdm *m);
#endif
