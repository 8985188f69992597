/* The device's half of the protocol, version 1 (docs/protocol.md): identity, rotation of the secret, recovery,
 * claim, configuration, connection profiles, firmware, commands, log and core dumps.
 *
 * Events go in, actions come out. Nothing here opens a connection, writes flash, reads a clock, allocates memory or
 * waits: your program (the port) does that, and port/posix is one to read. There is one thread of control: call nothing
 * of this file from within an action, nor from two threads at once.
 *
 *     mdm_begin(&m, &port, &facts, buffer, sizeof buffer, now_ms());
 *     for (;;) {
 *       struct mdm_action action;
 *       uint32_t wait = mdm_tick(&m, now_ms());
 *       while (mdm_next(&m, &action)) carry_out(&action);
 *       wait for the network, at most `wait` ms, and tell what came: mdm_on_connected, mdm_on_message, ...
 *     }
 *
 * What the port must guarantee, because the promise that no device is locked out rests on it:
 *   - a stored record is durable and whole when mdm_on_done(m, true) is called: the old one or the new one after a power
 *     cut, never a mixture, never neither (littlefs and rename do this, FAT does not; of NVS see port/esp_idf/records.c);
 *   - records are never erased by anything but MDM_STORE: on ESP-IDF keep them in a partition of their own;
 *   - mdm_on_refused is called for CONNACK 4 and 5 (MQTT 5: 0x86, 0x87) and nothing else;
 *   - a message is acknowledged to the broker when MDM_PUBACK says so, and not before.
 */
#ifndef MDM_H
#define MDM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDM_SECRET_MAX 255  /* characters of a secret; the services make 43 */
#define MDM_NAME_MAX 100    /* characters of a client id */
#define MDM_ACCOUNT_MAX 63  /* characters of the account and of the password of a recovery */
#define MDM_NOTE_MAX 120    /* characters kept of an application's error; the rest is cut */
#define MDM_COMMANDS 32     /* commands that are remembered, so that none is executed twice: protocol.md, Commands */
#define MDM_LOG_BYTES 512   /* lines that wait for the broker; beyond it the oldest are lost */
#define MDM_RESULT_MAX 512  /* characters of a command's result */
#define MDM_WAKE_INTERVAL_MAX_S 2592000 /* 30 days */
#define MDM_OUT_BYTES 1024  /* end of the caller's buffer in which actions are written */
#define MDM_BUFFER_MIN 2048 /* the least buffer: a message may have its size less MDM_OUT_BYTES */

/* ---- What the port provides --------------------------------------------------------------------------------------- */

/* Functions without lasting effect; each but `load` returns false if it failed. port/psa has the cryptography. */
struct mdm_port {
  void *context; /* given to each function */
  /* Reads a record into `data`; returns its length, 0 if there is none, -1 if it cannot be read or exceeds `size`. Names
   * have at most 8 characters. "package" is the provisioning package (JSON) and "claim" the claim package: in flash. */
  int32_t (*load)(void *context, const char *name, void *data, size_t size);
  bool (*random)(void *context, uint8_t *bytes, size_t size);
  bool (*sha256)(void *context, const void *data, size_t size, uint8_t digest[32]);
  bool (*hmac_sha256)(void *context, const void *key, size_t key_size, const void *data, size_t size, uint8_t mac[32]);
  /* X25519 (RFC 7748): the shared secret, or the own public key if `peer` is NULL. */
  bool (*x25519)(void *context, const uint8_t own[32], const uint8_t *peer, uint8_t shared[32]);
  /* AES-256-GCM (NIST SP 800-38D): decrypts `data`, whose last 16 bytes are the tag, in place; false if it does not
   * fit. `more` are the additional data. */
  bool (*open_aes256gcm)(void *context, const uint8_t key[32], const uint8_t iv[12], const void *more,
                         size_t more_size, uint8_t *data, size_t size);
  /* Whether these are certificates in PEM that a connection can trust; NULL: not asked, a trial shows it. */
  bool (*can_trust)(void *context, const char *ca_certificate);
};

/* Facts about this start of the board; the texts stay valid while it runs. NULL and 0 mean unknown. */
struct mdm_facts {
  const char *uid;              /* 12 or 16 hexadecimal digits, only to claim an identity */
  const char *firmware_version; /* of the running image: esp_app_get_description()->version */
  const char *firmware_sha256;  /* 64 hexadecimal digits: of its file, its appended digest or its ELF file */
  const char *chip;             /* such as esp32c3 */
  const char *project;
  const char *reset_reason;
  const char *ip;
  int32_t rssi_dbm;
  uint32_t slot_size_bytes;  /* of an app partition; 0: this board takes no images */
  uint32_t piece_size_bytes; /* of an image, to request at once; 0: as the server offers */
  uint8_t slot;              /* 0 or 1: which of the two app partitions runs */
  uint8_t chip_id;           /* ESP image header, offset 12: 0 esp32, 2 s2, 5 c3, 9 s3, 12 c2, 13 c6, 16 h2 */
  bool on_trial;             /* the running image is not confirmed: ESP_OTA_IMG_PENDING_VERIFY */
  bool self_tested;          /* an image on trial is kept only after mdm_healthy */
  bool has_tokens;           /* the port can log in with `use_token` */
  bool either;               /* and presents a token first, and the secret if that fails: protocol.md, the same place */
  uint32_t wake_interval_s;  /* 0: stays connected; else it sleeps so long between two connections, see MDM_SLEEP */
  uint32_t key_told_s;       /* after a sleep: what mdm_key_told_s said before it, and the time since; 0: unknown */
  uint16_t hurry;            /* tests only: all pauses are shorter by this factor */
  uint32_t turn_ms;          /* tests only: instead of the hour after which the other connection profile is tried */
};

/* A core dump in flash (ESP-IDF: esp_core_dump_image_get); its name is the SHA-256 of its bytes. */
struct mdm_dump {
  uint32_t size;
  uint8_t sha256[32];
  const char *elf_sha256; /* 64 hexadecimal digits, of the image that crashed */
  const char *firmware_version;
  const char *reason;
};

/* ---- Actions ------------------------------------------------------------------------------------------------------ */

/* Carry out each action before the next call. Those marked * are answered at once by mdm_on_done(m, ok). */
enum mdm_kind {
  MDM_STORE = 1,   /* * replace the record `name` by `data`, durably; false drops the connection */
  MDM_ERASE,       /* * prepare the other app partition for writing from `offset` on, `size` bytes in all */
  MDM_WRITE,       /* * write `data` at `offset` of the other app partition */
  MDM_VERIFY,      /*   hash the first `size` bytes of it, then mdm_on_verified */
  MDM_BOOT,        /* * select it for the next start, on trial */
  MDM_KEEP_IMAGE,  /* * keep the running image: esp_ota_mark_app_valid_cancel_rollback */
  MDM_ROLL_BACK,   /*   start the other image again: esp_ota_mark_app_invalid_rollback_and_reboot */
  MDM_APPLY,       /*   apply the configuration `data` (a JSON object), then mdm_on_configured */
  MDM_RUN,         /*   execute the command `name` with the arguments `data`, then mdm_on_command_done, now or later */
  MDM_ERASE_DUMP,  /* * the core dump is stored on the server */
  MDM_PUBACK,      /*   acknowledge the message that mdm_on_message has taken last, if it had QoS 1 */
  MDM_CONNECT,     /*   end any connection, connect with `login`, then mdm_on_connected, _on_refused or _on_lost */
  MDM_SUBSCRIBE,   /*   subscribe to `topic` with QoS 1, then mdm_on_acknowledged, or mdm_on_lost if refused */
  MDM_PUBLISH,     /*   publish, QoS 1, then mdm_on_acknowledged (with QoS 0: at once) */
  MDM_DISCONNECT,  /*   end the connection with DISCONNECT: mdm_on_lost is not needed */
  MDM_RESTART,     /*   restart the board */
  MDM_SLEEP        /*   switch off, and start again after the wake interval: nothing is lost by it but this memory */
};

/* One connection. The texts are valid until the next call. */
struct mdm_login {
  const char *host, *client_id, *username, *password;
  const char *ca_certificate; /* PEM of all authorities to trust and no others, or NULL */
  const char *will_topic;     /* NULL: no will; else QoS 1, retained */
  const char *will;
  const char *token_url; /* for `use_token`: the password is the client secret, protocol.md, A broker that wants tokens */
  const char *wifi;      /* JSON array of {"ssid","password"} to join, in this order, or NULL: as it is */
  uint16_t port;
  bool tls, clean_session, use_token;
};

struct mdm_action {
  enum mdm_kind kind;
  const char *name; /* of a record or a command */
  const char *topic;
  const void *data;
  size_t size;
  uint32_t offset; /* in an app partition */
  uint32_t dump_offset, dump_size; /* MDM_PUBLISH: these bytes of the core dump follow `data` */
  bool retain;
  struct mdm_login login;
};

/* ---- Calls -------------------------------------------------------------------------------------------------------- */

enum mdm_error {
  MDM_OK,
  MDM_NO_IDENTITY, /* there is neither a package nor a claim package with a `uid` */
  MDM_BAD_PACKAGE, /* a field of it breaks a rule, or it exceeds the buffer */
  MDM_NO_TOKENS,   /* its broker wants tokens (`mqtt_auth`), which this port does not have */
  MDM_DAMAGED,     /* a record cannot be read, or is of a newer version: nothing is overwritten */
  MDM_FAILED       /* the port's cryptography or randomness failed */
};

struct mdm;

/* Starts the device from its records. `buffer` has at least MDM_BUFFER_MIN bytes, and all four pointers stay valid. Its
 * size bounds a message: 4 KiB take a package with a certificate, 36 KiB every configuration. */
enum mdm_error mdm_begin(struct mdm *m, const struct mdm_port *port, const struct mdm_facts *facts, void *buffer,
                         size_t size, uint64_t now_ms);
/* Takes the time, from any zero on, never backwards; returns the milliseconds until it wants to be called again. */
uint32_t mdm_tick(struct mdm *m, uint64_t now_ms);
/* Fills in the next action; false: there is none now. */
bool mdm_next(struct mdm *m, struct mdm_action *action);
void mdm_on_done(struct mdm *m, bool ok);
void mdm_on_connected(struct mdm *m);
void mdm_on_refused(struct mdm *m);
/* The connection failed, broke, or could not be made: an outage, whatever the reason. */
void mdm_on_lost(struct mdm *m);
void mdm_on_acknowledged(struct mdm *m);
/* Hands over a message or a part of one, in order: `offset` of `total` bytes, as esp-mqtt has them. False: it cannot be
 * taken now; offer it again once mdm_next has returned false. Take out all actions before the next part. */
bool mdm_on_message(struct mdm *m, const char *topic, size_t topic_size, const void *data, size_t size, size_t offset,
                    size_t total);
/* `error` is NULL if the configuration is in force, else a line that says why it is not. */
void mdm_on_configured(struct mdm *m, const char *error);
/* Ends the command of MDM_RUN: `result` is a JSON object or NULL; `error` is NULL unless it failed. */
void mdm_on_command_done(struct mdm *m, const char *result, const char *error);
void mdm_on_verified(struct mdm *m, const uint8_t sha256[32]);
/* A line for up/log; `tag` is the part of the firmware. Never log a secret. */
enum mdm_level { MDM_DEBUG, MDM_INFO, MDM_WARNING, MDM_ERROR };
void mdm_log(struct mdm *m, enum mdm_level level, const char *tag, const char *text);
/* Vitals for up/vitals: a JSON object of numbers, at most 800 characters, which stays valid until the next call of this
 * or until it is sent: now, or after the next login. docs/protocol.md, Vitals, has names and how often. */
void mdm_vitals(struct mdm *m, const char *json);
/* Offers a core dump from the next login on; it stays valid until MDM_ERASE_DUMP. */
void mdm_offer_dump(struct mdm *m, const struct mdm_dump *dump);
/* The image on trial has tested itself. */
void mdm_healthy(struct mdm *m);
/* A fact has changed: the status is published again. */
void mdm_on_facts(struct mdm *m);
/* Seconds since the server has answered for the key, which is sent once a day; 0: not since the start. */
uint32_t mdm_key_told_s(const struct mdm *m);
/* Says goodbye: the status offline, then MDM_DISCONNECT, and no other action until the next start. */
void mdm_stop(struct mdm *m);
bool mdm_is_online(const struct mdm *m);
/* The server's time in milliseconds since 1970, or 0: not known yet. */
int64_t mdm_server_time(const struct mdm *m);

#include "mdm_state.h"
#endif
