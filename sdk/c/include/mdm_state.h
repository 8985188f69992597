/* The memory of a device. Its members are private: read and change them by the calls of mdm.h only. */
#ifndef MDM_STATE_H
#define MDM_STATE_H

enum { MDM_REFUSED_IMAGES = 4, MDM_MISSING = 8, MDM_PLACES = 3, MDM_MARKS = 4 };

struct mdm_slot {
  uint64_t generation;
  char secret[MDM_SECRET_MAX + 1]; /* empty: no slot */
  char rotation_id[37];            /* empty: provisioned or recovered */
};

struct mdm_slots {
  struct mdm_slot first, second;
};

struct mdm_wanted {
  uint64_t generation;
  int64_t deadline_ms;
  char rotation_id[37]; /* empty: no offer is wanted */
};

/* Recognises a connection profile: its id, and the beginning of a hash of all else in it. */
struct mdm_mark {
  char id[17];
  uint8_t print[8];
};

/* ---- Records that are stored as they lie here ---- */

/* Connection profiles: the records of first, fall-back and trial (0: none), whose turn it is, and which one worked (0:
 * none, else a place plus 1); starts without an answer; the marks of the package's profile and of the three records. */
struct mdm_profiles {
  uint8_t places[3], turn, works, starts, refused_outcome;
  char refused_id[17];
  struct mdm_mark marks[MDM_MARKS];
};

struct mdm_config {
  uint64_t version, before, refused;
  uint8_t flags;
};

struct mdm_journal {
  uint32_t begun, finished, told; /* bits of the entries */
  uint8_t next, ids[MDM_COMMANDS][16];
};

struct mdm_image {
  uint8_t state, slot, reason;
  uint8_t sha256[32], refused[MDM_REFUSED_IMAGES][32];
};

struct mdm_recovery {
  uint16_t port; /* 0: not known */
  char account[MDM_ACCOUNT_MAX + 1], password[MDM_ACCOUNT_MAX + 1];
  uint8_t server_key[32];
};

/* What is used most comes first, and what is large last: code reaches the first bytes by shorter instructions. */
struct mdm {
  const struct mdm_port *port;
  const struct mdm_facts *facts;
  char *buffer, *out; /* messages and records come into the one, actions are written into the other */
  uint64_t now;
  uint32_t work; /* bits of what is to be done */
  uint8_t busy;  /* the work that mdm_on_done will answer, plus one */
  uint8_t phase, purpose, sending, route;
  bool knows_time, stopping, sleeps, restarts, was_answered, by_token, token_failed;
  size_t capacity, received, total;

  /* login */
  uint8_t candidate;
  uint16_t failures, asked_port; /* of the last recovery */
  uint64_t login;                /* generation of the secret of the present connection */
  uint64_t begun_at, active_at, refused_until; /* active: a login, or a message */

  /* configuration */
  uint8_t report_outcome;
  bool at_start, replaces_trial;
  size_t document_at, document_size;
  uint32_t next_trial_s;
  uint64_t next_version, report_version;
  struct mdm_config config;

  /* image */
  bool kept, is_healthy;
  const char *image_stage, *image_said, *image_error;

  /* download */
  uint8_t download_phase, window, restart_count;
  uint32_t download_size, piece_size, done, asked, saved, part, part_size, reported_percent;
  const uint8_t *part_data;

  /* commands */
  uint8_t running, telling, restarts_after;
  bool missed_command;
  const char *command_name, *arguments;
  size_t arguments_size, result_size;

  /* core dump */
  const struct mdm_dump *dump;
  uint32_t dump_piece, dump_offset, dump_size;
  uint8_t missing_count;

  /* log, vitals, identity */
  const char *vitals;
  uint16_t log_size;
  bool knows_key;
  uint32_t boot;
  uint64_t log_first, log_sent, started_at, key_told_at, package_generation;
  int64_t server_at_zero; /* the server's time when `now` was 0 */

  uint32_t pauses[16];
  uint32_t timers[25];
  uint32_t missing[MDM_MISSING];
  char request_id[9], check_id[9], nonce[33], result_name[4], public_key[44];
  uint8_t key[32], image_report_sha256[32], download_sha256[32], image_head[24], expired_command[16];
  struct mdm_wanted wanted;
  struct mdm_recovery recovery;
  struct mdm_mark next_mark;
  struct mdm_profiles profiles;
  char client_id[MDM_NAME_MAX + 1], note[MDM_NOTE_MAX + 1];
  struct mdm_slots slots;
  struct mdm_image image;
  struct mdm_journal journal;
  char log[MDM_LOG_BYTES];
};
#endif
