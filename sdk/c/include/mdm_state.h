/* The memory of a device. Its members are private: read and change them by the calls of mdm.h only. */
#ifndef MDM_STATE_H
#define MDM_STATE_H

enum { MDM_REFUSED_IMAGES = 4, MDM_MISSING = 8, MDM_PLACES = 3 };

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

struct mdm_recovery {
  uint16_t port; /* 0: not known */
  char account[MDM_ACCOUNT_MAX + 1], password[MDM_ACCOUNT_MAX + 1];
  uint8_t server_key[32];
};

struct mdm {
  const struct mdm_port *port;
  const struct mdm_facts *facts;
  char *buffer, *out; /* messages and records come into the one, actions are written into the other */
  size_t capacity, received, total;
  uint64_t now, started_at;
  int64_t server_at_zero; /* the server's time when `now` was 0 */
  uint64_t timers[21];
  uint32_t pauses[15];
  uint32_t work; /* bits of what is to be done */
  uint32_t boot;
  uint8_t busy; /* the work that mdm_on_done will answer, plus one */
  uint8_t phase, purpose, sending, route;
  bool knows_time, stopping, restarts, was_answered;

  /* login */
  uint8_t candidate;
  uint16_t failures;
  uint64_t begun_at, refused_until, offline_since;
  uint64_t login; /* generation of the secret of the present connection */
  char nonce[33];

  /* identity */
  char client_id[MDM_NAME_MAX + 1];
  uint8_t key[32];
  char public_key[44];
  struct mdm_slots slots;
  struct mdm_recovery recovery;
  uint64_t package_generation;
  struct mdm_wanted wanted;
  uint64_t key_told_at;
  bool knows_key;

  /* configuration */
  uint64_t config_version, config_before, config_refused, next_version, report_version;
  size_t document_at, document_size;
  uint32_t next_trial_s;
  uint8_t config_flags, report_outcome;
  bool at_start, replaces_trial;
  char request_id[9], note[MDM_NOTE_MAX + 1];

  /* connection profiles: first, fall-back, on trial, whose turn it is; ids of the package's and of three records */
  uint8_t places[4], refused_outcome;
  char place_ids[4][17], refused_place[17], next_place[17];

  /* image */
  uint8_t image_state, image_slot, image_reason;
  bool kept, is_healthy;
  uint8_t image_sha256[32], refused_images[MDM_REFUSED_IMAGES][32];
  const char *image_stage, *image_said, *image_error;
  uint8_t image_report_sha256[32];

  /* download */
  uint8_t download_phase, window, restart_count;
  uint8_t download_sha256[32], image_head[24];
  uint32_t download_size, piece_size, done, asked, saved, part, part_size, reported_percent;
  const uint8_t *part_data;
  char check_id[9];

  /* commands */
  uint8_t next_command, running, telling, restarts_after;
  uint32_t begun, finished, told; /* bits of the entries */
  uint8_t commands[MDM_COMMANDS][16], refused_command[16];
  const char *command_name, *arguments, *refused_why;
  size_t arguments_size, result_size;
  char result_name[4];

  /* core dump */
  const struct mdm_dump *dump;
  uint32_t dump_piece, dump_offset, dump_size, missing[MDM_MISSING];
  uint8_t missing_count;

  /* log */
  uint64_t log_first, log_sent;
  uint16_t log_size;
  char log[MDM_LOG_BYTES];
};
#endif
