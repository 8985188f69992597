// Written by `make docs` from shared/protocol. Do not edit.

import type { LosslessNumber } from "lossless-json";

/** An admin operation of a service; the request and the result are only types. */
export interface Operation<Asked, Answered> {
  readonly service: string;
  readonly noun: string;
  readonly verb: string;
  /** The least role of an account that may ask for it. */
  readonly role: Role;
  /** These two are never present: they carry the types. */
  readonly request?: Asked;
  readonly result?: Answered;
}

/** An event with the name in its topic. */
export interface Told<Noun, Verb, ClientId, Facts> extends Omit<Event, "client_id" | "data"> {
  readonly noun: Noun;
  readonly verb: Verb;
  readonly client_id: ClientId;
  readonly data: Facts;
}

/** A number that JavaScript would write in another way is a LosslessNumber. */
export type Json = null | boolean | number | LosslessNumber | string | Json[] | { [name: string]: Json };

/** Create an account of an admin with this role and password. */
export interface AccountAdd {
  name: string;
  role: Role;
  password: string;
}

/** An admin's account. */
export interface AccountFacts {
  account: string;
  role?: Role | null;
}

/** Change the password of an account, or recreate it in a broker that lost it; its sessions are ended. */
export interface AccountPassword {
  name: string;
  password: string;
}

/** Reference to an account. */
export interface AccountRef {
  name: string;
}

/** Change the role of an account; its sessions are ended. */
export interface AccountRole {
  name: string;
  role: Role;
}

/** An account; `present` is whether the broker has it, with the rights of its role. */
export interface AccountView {
  name: string;
  role: Role;
  author: string;
  created_at: string;
  present: boolean;
}

/** All accounts of admins except the built-in one, by name. */
export interface Accounts {
  accounts: AccountView[];
}

/** The answer to a request: `result` when `ok`, else `error`. */
export interface Answer {
  ok: boolean;
  result?: Record<string, Json> | null;
  error?: Problem | null;
}

/** When the device is overdue: its wake interval and a grace after the end of its connection. */
export interface AsleepFacts {
  until: string;
}

/** A page of the audit log, newest first; `next` is None on the last. */
export interface Audit {
  entries: AuditView[];
  next: number | null;
}

/**
 * List a page of the audit log, optionally of one subject or account.
 *
 * `before` is the `next` of the page before.
 */
export interface AuditList {
  subject?: string | null;
  actor?: string | null;
  before?: number | null;
  limit?: number;
}

/** Who did what to what, and when, with the values before and after. */
export interface AuditView {
  at: string;
  actor: string;
  action: string;
  subject: string;
  before: Record<string, Json> | null;
  after: Record<string, Json> | null;
}

/**
 * An authority, and how many devices trust it, or it alone, in a profile that they use or keep.
 *
 * `claims` are those in force whose package trusts it alone.
 */
export interface AuthorityUse {
  subject: string;
  fingerprint: string;
  ends_at: string;
  devices: number;
  alone: number;
  claims: string[];
}

/** A certificate that devices trust. */
export interface AuthorityView {
  subject: string;
  fingerprint: string;
  ends_at: string;
}

/**
 * Create a claim and its broker account with this password, which no service stores.
 *
 * The client generates the password, so that a repeated request has one effect and one answer.
 */
export interface ClaimAdd {
  model: string;
  tags?: string[];
  uses?: number;
  expires_in_s?: number;
  needs_approval?: boolean;
  password: string;
}

/** A new claim, and the address for its machines. */
export interface ClaimAdded {
  claim: string;
  model: string;
  tags: string[];
  uses: number;
  used: number;
  waiting: number;
  needs_approval: boolean;
  state: "live" | "used up" | "expired" | "revoked";
  expires_at: string;
  author: string;
  created_at: string;
  mqtt_host: string;
  mqtt_port: number;
  mqtt_tls: boolean;
  ca_certificate: string | null;
}

/** A claim, and the model of its machines. */
export interface ClaimAddedFacts {
  claim: string;
  model: string;
}

/** A claim. */
export interface ClaimFacts {
  claim: string;
}

/** List the newest claims: the live ones, or all. */
export interface ClaimList {
  all?: boolean;
  limit?: number;
}

/** Reference to a claim. */
export interface ClaimRef {
  claim: string;
}

/** Reference to the request of one machine. */
export interface ClaimRequestRef {
  uid: string;
}

/** A requesting machine, and the device that it became. */
export interface ClaimRequestView {
  uid: string;
  claim: string;
  model: string;
  state: "pending" | "granted" | "denied";
  client_id: string | null;
  requested_at: string;
  granted_at: string | null;
}

/** A page of requesting machines; `next` is None on the last. */
export interface ClaimRequestViews {
  requests: ClaimRequestView[];
  next: string | null;
}

/** List a page of the requesting machines by uid; `after` is the `next` of the page before. */
export interface ClaimRequests {
  claim?: string | null;
  state?: "pending" | "granted" | "denied" | null;
  after?: string | null;
  limit?: number;
}

/** A claim; `used` machines have used it, `waiting` ones wait for an admin. */
export interface ClaimView {
  claim: string;
  model: string;
  tags: string[];
  uses: number;
  used: number;
  waiting: number;
  needs_approval: boolean;
  state: "live" | "used up" | "expired" | "revoked";
  expires_at: string;
  author: string;
  created_at: string;
}

/** Claims, newest first. */
export interface ClaimViews {
  claims: ClaimView[];
}

/** A device's answer. */
export interface CommandAnswerFacts {
  command_id: string;
  batch_id: string;
  name: string;
  ok: boolean;
  error: string | null;
}

/**
 * The state of a batch, and a page of its devices; `next` is None on the last.
 *
 * A page may be shorter than requested: it has as many results as fit into one message.
 */
export interface CommandBatch {
  batch_id: string;
  counts: CommandCounts;
  commands: CommandView[];
  next: number | null;
}

/** A command to one device or many. */
export interface CommandBatchFacts {
  batch_id: string;
  name: string;
  devices: number;
  skipped: number;
}

/** The number of devices of a batch in each state. */
export interface CommandCounts {
  waiting: number;
  ok: number;
  failed: number;
  expired: number;
}

/** List the newest commands, optionally of one device. */
export interface CommandList {
  device?: string | null;
  limit?: number;
}

/** Reference to the command of one device. */
export interface CommandRef {
  client_id: string;
  command_id: string;
}

/**
 * Send a command to one device, or to all that match `tag` and `model`, to be executed once before it expires.
 *
 * The devices' models must list `name`, unless it is `reboot` or `identify`; else it is sent to none of them.
 */
export interface CommandSend {
  device?: string | null;
  all?: boolean;
  tag?: string | null;
  model?: string | null;
  name: string;
  arguments?: Record<string, Json>;
  expires_in_s?: number;
}

/** The batch that was sent; `skipped` are matching devices that are disabled. */
export interface CommandSent {
  batch_id: string;
  expires_at: string;
  commands: CommandRef[];
  skipped: string[];
}

/** Show a page of a batch, in the order of the devices; `after` is the `next` of the page before. */
export interface CommandShow {
  batch_id: string;
  after?: number;
  limit?: number;
}

/** A command of one device and its outcome: `result` and `error` are reported by the device. */
export interface CommandView {
  command_id: string;
  batch_id: string;
  client_id: string;
  name: string;
  arguments: Record<string, Json>;
  author: string;
  created_at: string;
  expires_at: string;
  outcome: "waiting" | "ok" | "failed" | "expired";
  answered_at: string | null;
  result: Record<string, Json> | null;
  error: string | null;
}

/** Commands, newest first; as many as fit into one message. */
export interface Commands {
  commands: CommandView[];
}

/** A difference; `path` has the names of the objects from the outermost; an array is compared as a whole. */
export interface ConfigChange {
  path: string[];
  kind: "added" | "removed" | "changed";
  before: Json;
  after: Json;
}

/** All differences between two versions, by path. */
export interface ConfigChanges {
  client_id: string;
  from_version: number;
  to_version: number;
  changes: ConfigChange[];
}

/** Compare two versions: by default the desired one with its predecessor; 0 is the empty document. */
export interface ConfigDiff {
  device: string;
  from_version?: number | null;
  to_version?: number | null;
}

/** A version, its author and time, and the device's report about it, if any. */
export interface ConfigEntry {
  version: number;
  author: string;
  created_at: string;
  trial_seconds: number | null;
  outcome: string | null;
  reported_at: string | null;
}

/** A version of a device's configuration. */
export interface ConfigFacts {
  version: number;
}

/** List a page of the versions of a device's configuration; `before` is the `next` of the page before. */
export interface ConfigHistory {
  device: string;
  before?: number | null;
  limit?: number;
}

/** The outcome of a configuration on a device. */
export type ConfigOutcome = "applied" | "rejected" | "reverted";

/** The outcome of a version of a device's configuration. */
export interface ConfigReportFacts {
  version: number;
  outcome: ConfigOutcome;
  error: string | null;
}

/** Versions of a configuration: the one that failed its trial, and the one in its place. */
export interface ConfigRestoreFacts {
  reverted: number;
  restored: number | null;
  version: number;
}

/** Make the overrides of an old version the newest version, merged with the current defaults and layers. */
export interface ConfigRollback {
  device: string;
  version: number;
}

/**
 * Change a device's overrides; layers and the model's defaults fill in the rest.
 *
 * `overrides` is merged into the present ones (RFC 7396: null removes), or replaces them. `trial_seconds`: the
 * device must reconnect and report within that time, or it reverts to the last good version. `expected_version`:
 * the request is refused unless this is still the desired version, so that no change is overwritten. The
 * placeholder of a sealed value keeps that value.
 */
export interface ConfigSet {
  device: string;
  overrides: Record<string, Json>;
  replace?: boolean;
  trial_seconds?: number | null;
  expected_version?: number | null;
}

/** The new desired version, or the old one if nothing changed. */
export interface ConfigSetResult {
  client_id: string;
  version: number;
  changed: boolean;
  document: Record<string, Json>;
}

/** Get a version of a device's configuration, by default the desired one. */
export interface ConfigVersionGet {
  device: string;
  version?: number | null;
}

/** A page of versions, newest first; `next` is None on the last. */
export interface ConfigVersions {
  client_id: string;
  desired: number;
  versions: ConfigEntry[];
  next: number | null;
}

/** A version with its documents; `desired` and `reported` are the device's current versions. */
export interface ConfigView {
  version: number;
  author: string;
  created_at: string;
  trial_seconds: number | null;
  outcome: string | null;
  reported_at: string | null;
  client_id: string;
  overrides: Record<string, Json>;
  document: Record<string, Json>;
  desired: number;
  reported: number | null;
  reported_outcome: string | null;
}

/** A layer of connection profiles: its number in the history, and the devices that it is for. */
export interface ConnectionChangeFacts {
  number: number;
  scope: string;
  tag?: string | null;
  removed?: boolean;
}

/**
 * The effect of a change: `number` is the new layer's, None if nothing was changed.
 *
 * `devices` want another profile by it. Of these, `moving` receive it, when they are online, and `unable` have
 * firmware that reports no profiles; the others use it already. `warnings` are for a person to judge.
 */
export interface ConnectionEffect {
  number: number | null;
  changed: boolean;
  devices: number;
  moving: number;
  unable: number;
  warnings: string[];
}

/** A connection profile; the one of an old package has no id. */
export interface ConnectionFacts {
  connection_id?: string | null;
}

/** List a page of all layers that there ever were; `before` is the `next` of the page before. */
export interface ConnectionHistory {
  before?: number | null;
  limit?: number;
}

/** A layer, see `ConnectionSet`; of Wi-Fi networks `document` has only the names, each with an id. */
export interface ConnectionLayerView {
  number: number;
  scope: "settings" | "all" | "tag" | "device";
  tag: string | null;
  client_id: string | null;
  priority: number;
  document: Record<string, Json>;
  trial_seconds: number | null;
  removed: boolean;
  in_force: boolean;
  author: string;
  created_at: string;
}

/** A page of layers, newest first; `next` is None on the last. */
export interface ConnectionLayerViews {
  layers: ConnectionLayerView[];
  next: number | null;
}

/** A connection profile that a device did not keep, and why. */
export interface ConnectionRefusalFacts {
  connection_id?: string | null;
  outcome: string | null;
  reason?: string | null;
}

/** Remove a layer: its devices use what the layers below it say. */
export interface ConnectionRemove {
  all?: boolean;
  tag?: string | null;
  device?: string | null;
  dry_run?: boolean;
}

/** How many devices are sent the profile that they want again at once, when they are online. */
export interface ConnectionRetried {
  devices: number;
}

/** Make the content of an old layer the newest one of the same devices. */
export interface ConnectionRollback {
  number: number;
  dry_run?: boolean;
}

/**
 * Change a layer; its other fields stay, and those in `unset` are left to the layers below it again.
 *
 * The settings of the registry are below all's layer, this below those of tags, these below a device's own. Those
 * of tags apply in the order of priority, then tag. `ca_certificate` is the PEM of all authorities to trust,
 * `wifi` all networks, in the order in which a device tries them. Without a change, devices that refused the
 * profile are sent it again at once.
 */
export interface ConnectionSet {
  all?: boolean;
  tag?: string | null;
  device?: string | null;
  dry_run?: boolean;
  mqtt_host?: string | null;
  mqtt_port?: number | null;
  mqtt_tls?: boolean | null;
  mqtt_auth?: "password" | "token" | null;
  token_url?: string | null;
  ca_certificate?: string | null;
  recovery_port?: number | null;
  wifi?: WifiNetwork[] | null;
  trial_seconds?: number | null;
  priority?: number | null;
  unset?: ("mqtt_host" | "mqtt_port" | "mqtt_tls" | "mqtt_auth" | "token_url" | "ca_certificate" | "recovery_port" | "wifi" | "trial_seconds")[];
}

/** Show the profile that is wanted for a device, or for one without any layers but those of `tag` or `all`. */
export interface ConnectionShow {
  all?: boolean;
  tag?: string | null;
  device?: string | null;
}

/**
 * All profiles and authorities that devices have or want, those of most devices first, up to MAX_PROFILES.
 *
 * `as_provisioned` devices have never reported a profile: what is counted of them is their last package, and of
 * `without_package`, whose package is from before there were profiles, nothing.
 */
export interface ConnectionStatus {
  profiles: ProfileUse[];
  more: number;
  authorities: AuthorityUse[];
  as_provisioned: number;
  without_package: number;
  on_fallback: number;
}

/** The devices of a layer: all, those with a tag, or one. */
export interface ConnectionTarget {
  all?: boolean;
  tag?: string | null;
  device?: string | null;
}

/**
 * A field of a profile and the layer that it is from: `settings`, `all`, `tag NAME` or `device`.
 *
 * Of Wi-Fi networks there are only the names.
 */
export interface ConnectionValue {
  field: "mqtt_host" | "mqtt_port" | "mqtt_tls" | "mqtt_auth" | "token_url" | "ca_certificate" | "recovery_port" | "wifi";
  value: string | number | boolean | string[];
  source: string;
  number: number;
}

/** A wanted profile, where each of its values is from, and what a device has. */
export interface ConnectionView {
  connection_id: string;
  trial_seconds: number;
  values: ConnectionValue[];
  authorities: AuthorityView[];
  client_id: string | null;
  device: DeviceConnectionView | null;
}

/** Bytes of a core dump, at most 128 KiB. */
export interface CoreDumpBytes {
  data: string;
}

/** A core dump. */
export interface CoreDumpFacts {
  id: number;
  sha256: string;
}

/** List the newest stored core dumps, optionally of one device; `before` is the `next` of the page before. */
export interface CoreDumpList {
  device?: string | null;
  before?: number | null;
  limit?: number;
}

/** Read bytes of a core dump from `offset`, the start of a chunk: 0, or the end of the last read. */
export interface CoreDumpRead {
  id: number;
  offset?: number;
}

/** Reference to a stored core dump. */
export interface CoreDumpRef {
  id: number;
}

/** A core dump that differs from its offer. */
export interface CoreDumpRefusedFacts {
  sha256: string;
  reason: string;
}

/** A core dump, and the device's report of the crash. */
export interface CoreDumpStoredFacts {
  id: number;
  sha256: string;
  size_bytes: number;
  elf_sha256: string;
  reason: string | null;
}

/**
 * A stored core dump. `reason` and `firmware_version` are reported by the device.
 *
 * The `image_*` are of the image whose ELF has the dump's `elf_sha256`: all None if there is no such image.
 */
export interface CoreDumpView {
  id: number;
  client_id: string;
  sha256: string;
  size_bytes: number;
  elf_sha256: string;
  reason: string | null;
  firmware_version: string | null;
  image_model: string | null;
  image_version: string | null;
  image_sha256: string | null;
  stored_at: string;
}

/** Core dumps, newest first; `next` is None on the last page. */
export interface CoreDumps {
  dumps: CoreDumpView[];
  next: number | null;
}

/**
 * Add a device: its row, its Keycloak client and its broker account, or nothing at all.
 *
 * With `unique_name` it is refused if a device of the model has this name: `conflict`, with that device's
 * `client_id` in the details.
 */
export interface DeviceAdd {
  model: string;
  name?: string;
  tags?: string[];
  unique_name?: boolean;
}

/** A device's profiles by its last report, or by its package before the first one; None has no id. */
export interface DeviceConnectionView {
  progress: "in use" | "waiting" | "refused" | "fallback" | "as provisioned";
  wanted: string;
  first: string | null;
  fallback: string | null;
  in_use: string | null;
  refused_id: string | null;
  refused_outcome: string | null;
  refused_reason: string | null;
  refused_at: string | null;
  reported_at: string | null;
  sent_id: string | null;
  sent_at: string | null;
}

/**
 * A device, with what it reports of itself, and against the rules of the protocol.
 *
 * `rssi_dbm`, `ip`, `chip` and `reset_reason` are of its last status, as is `secret_generation_reported`, that of
 * its login. `up_since` is when it started: by the uptime among its vitals, else when it was first seen after its
 * start; None if it is not online, or neither is known. `clashed_at` is when two boards last used its identity,
 * None if that is over for ten minutes.
 */
export interface DeviceDetails {
  client_id: string;
  key: string;
  model: string;
  name: string;
  tags: string[];
  enabled: boolean;
  online: boolean;
  presence: "online" | "asleep" | "offline";
  health: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled";
  health_reasons: HealthReason[];
  last_seen_at: string | null;
  wake_interval_s: number | null;
  asleep_until: string | null;
  firmware_version: string | null;
  config_version: number;
  config_version_reported: number | null;
  config_outcome: string | null;
  config_error: string | null;
  secret_generation: number;
  secret_created_at: string;
  has_key: boolean;
  rotation_state: string;
  rssi_dbm: number | null;
  ip: string | null;
  chip: string | null;
  reset_reason: string | null;
  up_since: string | null;
  secret_generation_reported: number | null;
  flaws: FlawView[];
  clashed_at: string | null;
  connection: DeviceConnectionView | null;
}

/**
 * Find the devices that a text names.
 *
 * It is the first of these that fits any: the client id or key; the uid, also written as A0:B7:65:01:02:03; the
 * display name; the display name in other capitals; the beginning of a client id or key.
 */
export interface DeviceFind {
  text: string;
}

/**
 * The label of the stored image that a device `runs`, and of the one that is `wanted` for it.
 *
 * `stage` and `percent` are its progress with that; `withheld` is the reason why it does not get it.
 */
export interface DeviceFirmware {
  client_id: string;
  runs: string | null;
  wanted: string | null;
  up_to_date: boolean;
  stage: string | null;
  percent: number | null;
  withheld: string | null;
}

/**
 * List a page of the devices that match all filters, in the order in which they were added.
 *
 * `online`: it is connected, or is not; `presence` distinguishes those that are asleep from those that are
 * offline. `drift`: the device was seen, and the desired configuration is not the one that it reported applied;
 * false if that is. `after` is the `next` of the page before.
 */
export interface DeviceList {
  model?: string | null;
  tag?: string | null;
  online?: boolean | null;
  presence?: "online" | "asleep" | "offline" | null;
  health?: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled" | null;
  drift?: boolean | null;
  rotation_state?: "OK" | "QUEUED" | "PENDING" | "TIMEOUT" | null;
  after?: number;
  limit?: number;
}

/** A device that a text may name. */
export interface DeviceMatch {
  client_id: string;
  name: string;
}

/**
 * Get the package as the image of an NVS partition of this size, a multiple of 4096.
 *
 * With `wifi_ssid` the image also has a Wi-Fi network. Its password may be a PSK of 64 hexadecimal digits; it is
 * empty if the network is open, and is not stored.
 */
export interface DeviceNvs {
  device: string;
  size_bytes?: number;
  wifi_ssid?: string | null;
  wifi_password?: string;
}

/** Reference to a device. */
export interface DeviceRef {
  device: string;
}

/** Change the given fields of a device; when disabled, Keycloak and the broker refuse it at once. */
export interface DeviceUpdate {
  device: string;
  name?: string | null;
  tags?: string[] | null;
  enabled?: boolean | null;
}

/** The fields of a device that an admin has changed, with their new values. */
export interface DeviceUpdateFacts {
  name?: string | null;
  tags?: string[] | null;
  enabled?: boolean | null;
}

/**
 * A device: its desired state and its last report; with `has_key` it can recover by itself.
 *
 * Its `health` is the level of the worst of the `health_reasons`, which come first. `last_seen_at` is when it was
 * last known to be connected: the time of the answer if it is.
 * A device that is `asleep` is not connected, and has until `asleep_until` to come back. `wake_interval_s` is the
 * one of its last status.
 */
export interface DeviceView {
  client_id: string;
  key: string;
  model: string;
  name: string;
  tags: string[];
  enabled: boolean;
  online: boolean;
  presence: "online" | "asleep" | "offline";
  health: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled";
  health_reasons: HealthReason[];
  last_seen_at: string | null;
  wake_interval_s: number | null;
  asleep_until: string | null;
  firmware_version: string | null;
  config_version: number;
  config_version_reported: number | null;
  config_outcome: string | null;
  config_error: string | null;
  secret_generation: number;
  secret_created_at: string;
  has_key: boolean;
  rotation_state: string;
}

/** The vitals of a device by name, and up to 400 points of the one asked for, oldest first. */
export interface DeviceVitals {
  client_id: string;
  vitals: VitalView[];
  points: VitalPoint[];
}

/** A page of devices; `next` is None on the last. */
export interface Devices {
  devices: DeviceView[];
  next: number | null;
}

/** The firmware of devices. */
export interface DevicesFirmware {
  devices: DeviceFirmware[];
}

/** The devices that a text may name, oldest first; `is_cut` if there are more. */
export interface DevicesFound {
  devices: DeviceMatch[];
  is_cut: boolean;
}

/** What was compared, and the differences. */
export interface Diagnosis {
  devices: number;
  findings: Finding[];
}

/** `events/{noun}/{verb}`: something that happened, after its commit; `data` depends on the event. */
export interface Event {
  event_id: string;
  at: string;
  client_id?: string | null;
  data?: Record<string, Json>;
}

/**
 * List a page of the events that are kept, optionally of one device, or with one noun.
 *
 * `before` is the `next` of the page before.
 */
export interface EventList {
  device?: string | null;
  noun?: string | null;
  before?: number | null;
  limit?: number;
}

/** Something that has happened, as it was published. */
export interface EventView {
  event_id: string;
  at: string;
  noun: string;
  verb: string;
  client_id: string | null;
  data: Record<string, Json>;
}

/** A page of events, newest first; `next` is None on the last. */
export interface Events {
  events: EventView[];
  next: number | null;
}

/**
 * One difference; `remedy` is the action of a repair, or what a person has to do.
 *
 * `subject` is what it is about: a client id, an image, the place of a certificate.
 */
export interface Finding {
  subject: string;
  problem: string;
  remedy: string;
  repaired: boolean;
}

/** Show the firmware of these devices; those that are unknown or disabled are left out of the answer. */
export interface FirmwareOf {
  devices: string[];
}

/** The image that a device should run. */
export interface FirmwareOfferFacts {
  version: string;
}

/** A device's progress with an image; `fell_back`: it had confirmed the image, and runs another one. */
export interface FirmwareReportFacts {
  sha256: string;
  stage: FirmwareStage | "fell_back";
  percent: number | null;
  error: string | null;
}

/** A device's progress with an image. */
export type FirmwareStage = "downloading" | "verifying" | "rebooting" | "confirmed" | "failed" | "rolled_back";

/** An image that a device does not get, and why. */
export interface FirmwareWithheldFacts {
  version: string;
  sha256: string;
  reason: string;
}

/** A field that is left out of a device's messages on a topic, since `at`, and the rule that it breaks. */
export interface FlawView {
  topic: string;
  field: string;
  rule: string;
  at: string;
}

/** How many devices there are, by health, its reasons and state; what no device has is left out. */
export interface FleetView {
  devices: number;
  disabled: number;
  online: number;
  asleep: number;
  drifting: number;
  without_key: number;
  health: Record<string, number>;
  health_reasons: Record<string, number>;
  rotation: Record<string, number>;
  versions: RunningVersion[];
}

/** The health of a device, the names of its reasons, and the health before that, if it is known. */
export interface HealthFacts {
  health: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled";
  reasons?: string[];
  before?: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled" | null;
}

/** Why a device is not healthy, since when, and the details if there are any. */
export interface HealthReason {
  reason: "offline" | "refused" | "clash" | "config_rejected" | "config_reverted" | "connection_refused" | "firmware_withheld" | "firmware_failed" | "firmware_rolled_back" | "rotation_timeout" | "core_dump" | "flaws";
  level: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled";
  since: string;
  detail: string | null;
}

/** Bytes of an image. */
export interface ImageBytes {
  data: string;
}

/** A deleted image. */
export interface ImageDeletedFacts {
  model: string;
  version: string;
  sha256: string;
  by: string;
}

/** A stored image, its uploader, and how many devices run it or are fetching it. */
export interface ImageDetails {
  sha256: string;
  model: string;
  version: string;
  embedded_version: string | null;
  project: string;
  chip: string;
  size_bytes: number;
  idf_version: string;
  secure_version: number;
  min_chip_revision: number;
  max_chip_revision: number | null;
  secure_boot_signatures: number;
  secure_boot_keys: string[];
  app_sha256: string | null;
  elf_sha256: string | null;
  uploaded_at: string;
  current: boolean;
  pinned: boolean;
  signature: string | null;
  signed_by: string | null;
  uploaded_by: string;
  running: number;
  delivering: number;
  rollout: number | null;
}

/** A stored image. */
export interface ImageFacts {
  model: string;
  version: string;
  sha256: string;
}

/** List a page of the images of a model, or of all; `after` is the `next` of the page before. */
export interface ImageList {
  model?: string | null;
  after?: string | null;
  limit?: number;
}

/**
 * Read bytes of a stored image from `offset`: `length` of them, fewer where the image ends.
 *
 * The image is named by its hash, so that all reads are of the same image.
 */
export interface ImageRead {
  sha256: string;
  offset?: number;
  length?: number;
}

/** Reference to an image: a model has one of each label. */
export interface ImageRef {
  model: string;
  version: string;
}

/**
 * A stored image: its label `version`, and the facts in it; chip revisions are major * 100 + minor.
 *
 * A device may say that it runs the image by any of `sha256`, `app_sha256` (the digest appended to it) and
 * `elf_sha256`. `secure_boot_keys` are the digests of the keys of its Secure Boot signatures. `signature` is the
 * detached one in base64, and `signed_by` the fingerprint of the trusted key that made it; None if none did.
 */
export interface ImageView {
  sha256: string;
  model: string;
  version: string;
  embedded_version: string | null;
  project: string;
  chip: string;
  size_bytes: number;
  idf_version: string;
  secure_version: number;
  min_chip_revision: number;
  max_chip_revision: number | null;
  secure_boot_signatures: number;
  secure_boot_keys: string[];
  app_sha256: string | null;
  elf_sha256: string | null;
  uploaded_at: string;
  current: boolean;
  pinned: boolean;
  signature: string | null;
  signed_by: string | null;
}

/** Stored images, newest first; `next` is None on the last page. */
export interface Images {
  images: ImageView[];
  next: string | null;
}

export type JsonValue = Json;

/** Trust a public Ed25519 key, 32 bytes as in RFC 8032, for the images of a model. */
export interface KeyAdd {
  model: string;
  public_key: string;
}

/** List the keys that a model trusts. */
export interface KeyList {
  model: string;
}

/** Reference to one key of a model by its fingerprint: the SHA-256 of its DER. */
export interface KeyRef {
  model: string;
  fingerprint: string;
}

/** A key that a model trusts; `public_key` is base64. */
export interface KeyView {
  fingerprint: string;
  public_key: string;
  author: string;
  created_at: string;
}

/** The keys that a model trusts, oldest first; with none, it accepts images without a signature. */
export interface Keys {
  model: string;
  keys: KeyView[];
}

/** A layer, and the devices that got a new configuration by the change. */
export interface LayerFacts {
  tag: string;
  devices: number;
}

/** Reference to a layer. */
export interface LayerRef {
  tag: string;
}

/** The layer after the change, None if it was removed, and the devices that got a new version by it. */
export interface LayerResult {
  tag: string;
  layer: LayerView | null;
  devices: string[];
}

/**
 * Change the layer of a tag; a device's own overrides take precedence over it.
 *
 * `document` is merged into the present layer (RFC 7396: null removes), or replaces it: then a null removes
 * values of the model's defaults or of layers below. Layers apply in the order of priority, then tag. Sealed is
 * what the schema of any model seals at its place.
 */
export interface LayerSet {
  tag: string;
  document: Record<string, Json>;
  replace?: boolean;
  priority?: number | null;
}

/** A layer, and its last author. */
export interface LayerView {
  tag: string;
  priority: number;
  document: Record<string, Json>;
  author: string;
  updated_at: string;
}

/** All layers in the order in which they apply. */
export interface Layers {
  layers: LayerView[];
}

/** The level of a line of a log, in rising order. */
export type LogLevel = "debug" | "info" | "warning" | "error";

/**
 * A line of a device's log; all fields except `client_id` and `received_at` come from the device.
 *
 * `number` counts the lines since a start of the device (`boot`): a gap means a lost line.
 */
export interface LogLineView {
  client_id: string;
  received_at: string;
  level: LogLevel;
  tag: string | null;
  message: string;
  time: string | null;
  uptime_ms: number | null;
  boot: number;
  number: number;
}

/** Lines in the order in which they were stored; `next` is the `after` of the next request. */
export interface LogLines {
  lines: LogLineView[];
  next: number;
}

/**
 * List lines of devices' logs: the newest, or with `after` those that were stored since.
 *
 * `level` is the lowest level, `since_s` the maximum age of a line, in seconds since it was received.
 */
export interface LogList {
  device?: string | null;
  all?: boolean;
  tag?: string | null;
  model?: string | null;
  level?: LogLevel;
  since_s?: number | null;
  after?: number | null;
  limit?: number;
}

/** A machine, and the claim of its request. */
export interface MachineFacts {
  claim: string;
  uid: string;
}

/** Add a device model; its code cannot be changed later. */
export interface ModelAdd {
  code: string;
  name?: string;
  chip: "esp32" | "esp32s2" | "esp32s3" | "esp32c2" | "esp32c3" | "esp32c5" | "esp32c6" | "esp32c61" | "esp32h2" | "esp32h21" | "esp32h4" | "esp32p4" | "esp32e22" | "esp32s31";
  slot_size_bytes?: number;
  secure_boot_keys?: string[];
  config_schema?: Record<string, Json> | null;
  config_defaults?: Record<string, Json>;
  commands?: string[];
}

/** A model after a change, and the devices that got a new version of their configuration. */
export interface ModelChanged {
  code: string;
  name: string;
  chip: string;
  slot_size_bytes: number;
  secure_boot_keys: string[];
  config_schema: Record<string, Json> | null;
  config_defaults: Record<string, Json>;
  sealed: string[];
  commands: string[];
  devices: number;
  changed: string[];
}

/** A model. */
export interface ModelFacts {
  code: string;
}

/** Reference to a model. */
export interface ModelRef {
  code: string;
}

/**
 * Change the given fields of a model; its code cannot be changed.
 *
 * Schema and defaults are replaced as a whole (an empty schema allows everything). Each device whose document
 * changes gets a new version; if the document of any device would violate the schema, nothing changes.
 */
export interface ModelUpdate {
  code: string;
  name?: string | null;
  chip?: "esp32" | "esp32s2" | "esp32s3" | "esp32c2" | "esp32c3" | "esp32c5" | "esp32c6" | "esp32c61" | "esp32h2" | "esp32h21" | "esp32h4" | "esp32p4" | "esp32e22" | "esp32s31" | null;
  slot_size_bytes?: number | null;
  secure_boot_keys?: string[] | null;
  config_schema?: Record<string, Json> | null;
  config_defaults?: Record<string, Json> | null;
  commands?: string[] | null;
}

/** A model, and the devices that got a new configuration by the change. */
export interface ModelUpdateFacts {
  code: string;
  devices: number;
}

/** A device model; `sealed` are the places that are `writeOnly` in its schema, such as `nets[].psk`. */
export interface ModelView {
  code: string;
  name: string;
  chip: string;
  slot_size_bytes: number;
  secure_boot_keys: string[];
  config_schema: Record<string, Json> | null;
  config_defaults: Record<string, Json>;
  sealed: string[];
  commands: string[];
  devices: number;
}

/** All device models. */
export interface Models {
  models: ModelView[];
}

/** A number of devices, and the client ids of the first of them, up to MAX_NAMED. */
export interface Named {
  count: number;
  names: string[];
}

/** No data. */
export type NoFacts = Record<never, never>;

/** A request without parameters. */
export type Nothing = Record<never, never>;

/**
 * Add a rule: what to be notified of, and where.
 *
 * `url` is that of a webhook, or any that Apprise knows, as `mailto://...` or `ntfy://...`. `hold_s` is how long
 * the condition must hold before the rule notifies, and be over before it notifies of the end. `device`, `tag`
 * and `model` select devices; `percent` is the share of these for `share_silent`, `older_than_s` the age for
 * `secret_old`.
 */
export interface NotificationAdd {
  name: string;
  condition: "silent" | "share_silent" | "unhealthy" | "critical" | "core_dump" | "secret_old" | "rollout_halted" | "claim_waits" | "certificate_ends";
  url: string;
  hold_s?: number;
  device?: string | null;
  tag?: string | null;
  model?: string | null;
  percent?: number;
  older_than_s?: number;
}

/** List the newest messages, of all rules or of one. */
export interface NotificationHistory {
  name?: string | null;
  limit?: number;
}

/** The message that a test has queued. */
export interface NotificationQueued {
  id: string;
}

/** Reference to a rule. */
export interface NotificationRef {
  name: string;
}

/** A new rule, and the key with which its webhook's messages are signed; None for Apprise's. */
export interface NotificationRuleAdded {
  name: string;
  target: string;
  key: string | null;
}

/**
 * A rule; `target` is its URL without what is secret.
 *
 * It has notified of what is `firing`, and not of its end. `waiting` messages are not delivered yet; `last_error`
 * is that of the last attempt, None if it was successful.
 */
export interface NotificationRuleView {
  name: string;
  condition: "silent" | "share_silent" | "unhealthy" | "critical" | "core_dump" | "secret_old" | "rollout_halted" | "claim_waits" | "certificate_ends";
  target: string;
  hold_s: number;
  device: string | null;
  tag: string | null;
  model: string | null;
  percent: number;
  older_than_s: number;
  firing: number;
  waiting: number;
  last_error: string | null;
  author: string;
  created_at: string;
}

/** All rules. */
export interface NotificationRules {
  rules: NotificationRuleView[];
}

/** A message: its text, how often its delivery was tried, and the error of the last attempt. */
export interface NotificationView {
  id: string;
  rule: string;
  state: "firing" | "resolved" | "test";
  text: string;
  count: number;
  delivery: "waiting" | "delivered" | "failed";
  attempts: number;
  error: string | null;
  created_at: string;
  ended_at: string | null;
}

/** Messages, the newest first. */
export interface Notifications {
  notifications: NotificationView[];
}

/** The image of an NVS partition that makes a machine this device; whoever has it can act as the device. */
export interface NvsImage {
  client_id: string;
  secret_generation: number;
  data: string;
}

/** Why the device has restarted since it was last online; absent if it has not, or does not report it. */
export interface OnlineFacts {
  reset_reason?: string | null;
}

/**
 * All that a new device needs to connect; whoever has it can act as the device.
 *
 * `connection_id` is that of the connection profile that is a part of it.
 */
export interface Package {
  format: "mdm-package/1";
  client_id: string;
  device_key: string;
  secret: string;
  secret_generation: number;
  token_url: string;
  mqtt_host: string;
  mqtt_port: number;
  mqtt_tls: boolean;
  mqtt_auth: "password" | "token";
  ca_certificate: string | null;
  recovery: Recovery | null;
  connection_id: string | null;
  wifi: WifiNetwork[] | null;
}

/** The reason of a refusal; `code` is for scripts, `message` for people, `details` are the facts. */
export interface Problem {
  code: string;
  message: string;
  details?: Record<string, Json>;
}

/**
 * A profile, and how many devices use it, have it as fall-back, wait for it, or refused it.
 *
 * `known` is false for one that only devices know, as after the restore of a backup.
 */
export interface ProfileUse {
  connection_id: string;
  known: boolean;
  mqtt_host: string | null;
  mqtt_port: number | null;
  authorities: string[];
  wifi: string[];
  in_use: number;
  fallback: number;
  waiting: number;
  refused: number;
}

/** A chunk is stored. */
export interface Received {
  received: boolean;
}

/**
 * How a device whose secrets are all refused gets the one in force; in packages and `down/key`.
 *
 * It requests it on the host of the package, on this port, with a public account, whose name is the MQTT client
 * id too. `server_key` (X25519, base64url) is the server's half of the key by which the device authenticates
 * itself.
 */
export interface Recovery {
  port: number;
  account: string;
  password: string;
  server_key: string;
}

/** The secret that a device got. */
export interface RecoveryFacts {
  generation: number;
}

/** How many secrets are encrypted with the newest master key, and how many cannot be read. */
export interface RekeyFacts {
  reencrypted: number;
  unreadable: number;
}

/** An image, by its model and version. */
export interface ReleaseFacts {
  model: string;
  version: string;
}

/** Names of the removed objects. */
export interface Removed {
  removed: string;
}

/**
 * The rights of an account: read all but secrets, do the daily work too, or do everything.
 *
 * An account with the role `app` makes no requests: it has the devices' own topics, and nothing else.
 */
export type Role = "app" | "viewer" | "operator" | "admin";

/** Abort a rollout; devices that have begun may finish, unless `hard`. */
export interface RolloutAbort {
  rollout: number;
  hard?: boolean;
}

/** The number of devices in each state. */
export interface RolloutCounts {
  waiting: number;
  offered: number;
  taken: number;
  confirmed: number;
  failed: number;
  rolled_back: number;
  silent: number;
  skipped: number;
}

/** A device that failed, rolled back, was silent or was skipped. */
export interface RolloutFailure {
  client_id: string;
  wave: number;
  state: string;
  reason: string | null;
  at: string;
  forgiven: boolean;
}

/**
 * The result of a preflight: `fit` devices would accept the image, `already` run it.
 *
 * `count` would fail, of which `refusing` would not accept it; `problems` names the first of them, up to
 * MAX_NAMED, those that refuse first. `waves` are their sizes. Devices that were `never_seen` are none of these,
 * and not in the rollout, unless it is forced.
 */
export interface RolloutFindings {
  model: string;
  version: string;
  sha256: string;
  fit: number;
  already: Named;
  never_seen: number;
  count: number;
  refusing: number;
  problems: RolloutProblem[];
  waves: number[];
}

/** List the newest rollouts. */
export interface RolloutList {
  limit?: number;
}

/** A rollout in a new state. */
export interface RolloutMoveFacts {
  rollout: number;
  model: string;
  version: string;
  wave: number;
  reason?: string | null;
  forgiven?: number | null;
}

/**
 * The course of a rollout, and its limits.
 *
 * Each of `waves` is how many of the devices have been reached with it, including those of the waves before; the
 * last reaches all. A wave is met when `success_percent` of its devices have confirmed the image; more failures
 * in a wave than `failure_limit` halt the rollout. Offers are made in `window` only.
 */
export interface RolloutPlan {
  waves?: string[];
  success_percent?: number;
  failure_limit?: string;
  soak_s?: number;
  silence_s?: number;
  window?: string | null;
  zone?: string;
  max_under_way?: number;
  offers_per_minute?: number;
}

/** Check which devices would accept an image of their model: all, those with all `tags`, or a share of them. */
export interface RolloutPreflight {
  model: string;
  version: string;
  tags?: string[];
  percent?: number;
}

/** A device that would fail, and why; `refuses` unless it only cannot be reached now. */
export interface RolloutProblem {
  client_id: string;
  name: string;
  reason: string;
  refuses: boolean;
}

/** Reference to a rollout. */
export interface RolloutRef {
  rollout: number;
}

/** Show the state of a rollout, by default of the newest. */
export interface RolloutShow {
  rollout?: number | null;
}

/** Begin a rollout; it is refused if devices would fail, unless `skip` leaves them out or `force` is set. */
export interface RolloutStart {
  model: string;
  version: string;
  tags?: string[];
  percent?: number;
  plan?: RolloutPlan;
  skip?: boolean;
  force?: boolean;
}

/** A rollout that begins: its devices, and its parameters. */
export interface RolloutStartFacts {
  rollout: number;
  model: string;
  version: string;
  devices: number;
  already: number;
  unfit: number;
  tags?: string[];
  percent?: number;
  plan?: RolloutPlan;
  skip?: boolean;
  force?: boolean;
}

/**
 * The state of a rollout: `doing` names what it waits for.
 *
 * `failure_count` devices failed, rolled back, were silent or skipped; `failures` are the latest of them.
 */
export interface RolloutStatus {
  rollout: number;
  model: string;
  version: string;
  tags: string[];
  percent: number;
  state: string;
  reason: string | null;
  wave: number;
  waves: number;
  author: string;
  created_at: string;
  ended_at: string | null;
  plan: RolloutPlan;
  doing: string;
  counts: RolloutWave[];
  failure_count: number;
  failures: RolloutFailure[];
}

/** A rollout: `wave` of `waves` are open; a halted one has a `reason`. */
export interface RolloutView {
  rollout: number;
  model: string;
  version: string;
  tags: string[];
  percent: number;
  state: string;
  reason: string | null;
  wave: number;
  waves: number;
  author: string;
  created_at: string;
  ended_at: string | null;
}

/** A wave and its devices; wave 0 are those that ran the image before. */
export interface RolloutWave {
  wave: number;
  devices: number;
  counts: RolloutCounts;
}

/** A rollout, and its current wave. */
export interface RolloutWaveFacts {
  rollout: number;
  model: string;
  version: string;
  wave: number;
}

/** Rollouts, newest first. */
export interface Rollouts {
  rollouts: RolloutView[];
}

/** Cancel the rotations of one device, or of all. */
export interface RotationCancel {
  device?: string | null;
  all?: boolean;
}

/** The number of devices in each state. */
export interface RotationCounts {
  ok: number;
  queued: number;
  pending: number;
  timeout: number;
}

/** A successful rotation. */
export interface RotationDoneFacts {
  rotation_id: string;
  generation: number;
  acknowledged: boolean;
}

/**
 * One attempt to change a secret; `outcome` is DONE, TIMEOUT, WITHDRAWN, or None while it is in progress.
 *
 * WITHDRAWN: the device had left before the switch, and was queued again.
 */
export interface RotationEntry {
  rotation_id: string;
  generation: number;
  step: string;
  outcome: string | null;
  started_at: string;
  delivered_at: string | null;
  stored_at: string | null;
  switched_at: string | null;
  ended_at: string | null;
  duration_s: number | null;
  refused_proofs: number;
}

/** A rotation, and the generation of its new secret. */
export interface RotationFacts {
  rotation_id: string;
  generation: number;
}

/** List a page of a device's rotations; `before` is the `next` of the page before. */
export interface RotationHistory {
  device: string;
  before?: number | null;
  limit?: number;
}

/** A rotation that begins. */
export interface RotationOfferFacts {
  rotation_id: string;
  generation: number;
  restorable: boolean;
}

/**
 * The states of the devices, and a page of the rotations in progress; `next` is None on the last.
 *
 * Of the queued devices, some wait for no slot: they are `asleep` or `offline`, and get their offer when they are
 * online.
 */
export interface RotationOverview {
  counts: RotationCounts;
  asleep: number;
  offline: number;
  under_way: RotationUnderWay[];
  next: number | null;
}

/** A rotation, and the purpose of a proof. */
export interface RotationProofFacts {
  rotation_id: string;
  generation: number;
  purpose: "request" | "current" | "stored" | "ack";
}

/**
 * The result for each matching device.
 *
 * `queued` are queued now; those of them that are `waiting` are not online, and get their offer when they are.
 * `already` were queued or in progress before, `skipped` are disabled. `ending` have a
 * rotation that was cancelled and has not ended yet: it is not retried, so repeat the request for these.
 */
export interface RotationQueued {
  queued: Named;
  waiting: Named;
  already: Named;
  ending: Named;
  skipped: Named;
}

/**
 * When all devices are queued; `expression` and `next` are empty if no schedule is set. All times in UTC.
 *
 * `author` is the account that has set it; None: it is the setting of the rotator.
 */
export interface RotationScheduleView {
  expression: string;
  zone: string;
  author: string | null;
  last_fire_at: string | null;
  next: string[];
}

/** Queue one device, or all that match, for a rotation of their secrets. */
export interface RotationStart {
  device?: string | null;
  all?: boolean;
  tag?: string | null;
  model?: string | null;
}

/** Get counts and a page of the rotations in progress, by slot; `after` is the `next` of the page before. */
export interface RotationStatus {
  after?: number;
  limit?: number;
}

/** A rotation that has ended with the old secret in force. */
export interface RotationTimeoutFacts {
  rotation_id: string;
  generation: number;
  at_step: string;
  cancelled: boolean;
}

/** A rotation in progress; `left_s` is 0 once its time is up; `cancelled`: it ends without a retry. */
export interface RotationUnderWay {
  client_id: string;
  rotation_id: string;
  generation: number;
  step: string;
  slot: number;
  started_at: string;
  left_s: number;
  cancelled: boolean;
}

/** A page of a device's rotations, newest first; `next` is None on the last. */
export interface Rotations {
  client_id: string;
  rotations: RotationEntry[];
  next: number | null;
}

/**
 * The result for each device.
 *
 * `dequeued` had not begun, `not_retried` had timed out, and `ending` are in progress: each of these ends soon,
 * with the old secret or completed by its device, and is not retried. Other devices have nothing to cancel.
 */
export interface RotationsCancelled {
  dequeued: Named;
  not_retried: Named;
  ending: Named;
}

/** How many devices of a model last reported that they run this version; None: not reported. */
export interface RunningVersion {
  model: string;
  version: string | null;
  devices: number;
}

/** A schedule, and the account that has set it; without one it is the rotator's setting. */
export interface ScheduleChangeFacts {
  expression: string;
  zone: string;
  author?: string | null;
}

/** The result of a scheduled run. */
export interface ScheduleFacts {
  fire_at: string;
  queued: number;
  already: number;
}

/**
 * Set when all devices are queued: a cron expression of five fields, or an empty one for never.
 *
 * It is in the local time of `zone`, an IANA name, or of the present one.
 */
export interface ScheduleSet {
  expression: string;
  zone?: string | null;
}

/** How many are encrypted with the first master key now, and the devices of those that no key decrypts. */
export interface SecretsRekeyed {
  reencrypted: number;
  unreadable: Named;
}

/** The number of devices, if none is named. */
export interface SelectionFacts {
  devices?: number | null;
}

/** `services/{name}/{instance}/status`, retained and also the last will. */
export interface ServiceStatus {
  online: boolean;
  role?: string | null;
  since?: string | null;
}

/** A key that a model's images must be signed with. */
export interface SigningKeyFacts {
  model: string;
  fingerprint: string;
}

/** The secret in each place, as `generation (fingerprint)` or `not known`, and the repair. */
export interface SplitFacts {
  remedy: string;
  database: string;
  keycloak: string;
  broker: string;
}

/** An upload in progress: the offsets of the missing chunks, and the size of a chunk. */
export interface Upload {
  upload_id: string;
  chunk_size_bytes: number;
  missing: number[];
}

/** Announce an image for a model; `version` is its label, by default the version embedded in the image. */
export interface UploadBegin {
  model: string;
  sha256: string;
  size_bytes: number;
  version?: string | null;
}

/** One chunk of an image; all have `Upload.chunk_size_bytes` bytes, except the last. */
export interface UploadChunk {
  upload_id: string;
  offset: number;
  data: string;
}

/**
 * Check the whole image and store it; `release` makes it the model's image and notifies the devices.
 *
 * `signature` must be valid if the model trusts a key; it replaces that of an image that is stored already.
 */
export interface UploadFinish {
  upload_id: string;
  release?: boolean;
  signature?: string | null;
}

/**
 * A vital of those devices that ran one firmware; each counts with the mean of its numbers.
 *
 * `p5` and `p95` are what 5 and 95 percent of the devices are at most.
 */
export interface VitalOfVersion {
  name: string;
  version: string | null;
  devices: number;
  mean: number;
  p5: number;
  median: number;
  p95: number;
}

/**
 * A vital in the hour, or in one of equal parts of the time, that begins at `at`.
 *
 * `version` is the firmware that ran last in it, as far as is known.
 */
export interface VitalPoint {
  at: string;
  version: string | null;
  low: number;
  mean: number;
  high: number;
}

/** A vital of a device: its last number, received at `at`, and lowest, mean and highest in the time asked. */
export interface VitalView {
  name: string;
  last: number;
  at: string;
  low: number;
  mean: number;
  high: number;
}

/** Compare the vitals of a model's devices, or one of them, by firmware, in the last `since_s` seconds. */
export interface VitalsCompare {
  model: string;
  name?: string | null;
  since_s?: number;
}

/** The vitals of a model's devices by name, and each by firmware, what most devices ran first. */
export interface VitalsCompared {
  model: string;
  vitals: VitalOfVersion[];
}

/** Show the vitals of a device in the last `since_s` seconds; with `name` also how that one went. */
export interface VitalsShow {
  device: string;
  name?: string | null;
  since_s?: number;
}

/** The requesting account, and its role. */
export interface WhoAmI {
  account: string;
  role: Role;
}

/** A network and its passphrase or key (PSK), empty for an open network (IEEE 802.11, annex J.4). */
export interface WifiNetwork {
  ssid: string;
  password?: string;
}

/** Leave a model without an image: its devices keep what they run. */
export interface Withdraw {
  model: string;
}

export const ACCOUNT_ADD: Operation<AccountAdd, AccountView> = { service: "registry", noun: "account", verb: "add", role: "admin" };
export const ACCOUNT_LIST: Operation<Nothing, Accounts> = { service: "registry", noun: "account", verb: "list", role: "admin" };
export const ACCOUNT_PASSWORD: Operation<AccountPassword, AccountView> = { service: "registry", noun: "account", verb: "password", role: "admin" };
export const ACCOUNT_REMOVE: Operation<AccountRef, Removed> = { service: "registry", noun: "account", verb: "remove", role: "admin" };
export const ACCOUNT_ROLE: Operation<AccountRole, AccountView> = { service: "registry", noun: "account", verb: "role", role: "admin" };
export const ACCOUNT_WHOAMI: Operation<Nothing, WhoAmI> = { service: "registry", noun: "account", verb: "whoami", role: "viewer" };
export const AUDIT_LIST: Operation<AuditList, Audit> = { service: "registry", noun: "audit", verb: "list", role: "viewer" };
export const CLAIM_ADD: Operation<ClaimAdd, ClaimAdded> = { service: "registry", noun: "claim", verb: "add", role: "admin" };
export const CLAIM_APPROVE: Operation<ClaimRequestRef, ClaimRequestView> = { service: "registry", noun: "claim", verb: "approve", role: "admin" };
export const CLAIM_DENY: Operation<ClaimRequestRef, ClaimRequestView> = { service: "registry", noun: "claim", verb: "deny", role: "admin" };
export const CLAIM_FORGET: Operation<ClaimRequestRef, Removed> = { service: "registry", noun: "claim", verb: "forget", role: "admin" };
export const CLAIM_LIST: Operation<ClaimList, ClaimViews> = { service: "registry", noun: "claim", verb: "list", role: "viewer" };
export const CLAIM_REQUESTS: Operation<ClaimRequests, ClaimRequestViews> = { service: "registry", noun: "claim", verb: "requests", role: "viewer" };
export const CLAIM_REVOKE: Operation<ClaimRef, ClaimView> = { service: "registry", noun: "claim", verb: "revoke", role: "admin" };
export const COMMAND_LIST: Operation<CommandList, Commands> = { service: "registry", noun: "command", verb: "list", role: "viewer" };
export const COMMAND_SEND: Operation<CommandSend, CommandSent> = { service: "registry", noun: "command", verb: "send", role: "operator" };
export const COMMAND_SHOW: Operation<CommandShow, CommandBatch> = { service: "registry", noun: "command", verb: "show", role: "viewer" };
export const CONFIG_DIFF: Operation<ConfigDiff, ConfigChanges> = { service: "registry", noun: "config", verb: "diff", role: "viewer" };
export const CONFIG_GET: Operation<ConfigVersionGet, ConfigView> = { service: "registry", noun: "config", verb: "get", role: "viewer" };
export const CONFIG_HISTORY: Operation<ConfigHistory, ConfigVersions> = { service: "registry", noun: "config", verb: "history", role: "viewer" };
export const CONFIG_ROLLBACK: Operation<ConfigRollback, ConfigSetResult> = { service: "registry", noun: "config", verb: "rollback", role: "operator" };
export const CONFIG_SET: Operation<ConfigSet, ConfigSetResult> = { service: "registry", noun: "config", verb: "set", role: "operator" };
export const CONNECTION_HISTORY: Operation<ConnectionHistory, ConnectionLayerViews> = { service: "registry", noun: "connection", verb: "history", role: "viewer" };
export const CONNECTION_REMOVE: Operation<ConnectionRemove, ConnectionEffect> = { service: "registry", noun: "connection", verb: "remove", role: "admin" };
export const CONNECTION_RETRY: Operation<ConnectionTarget, ConnectionRetried> = { service: "registry", noun: "connection", verb: "retry", role: "admin" };
export const CONNECTION_ROLLBACK: Operation<ConnectionRollback, ConnectionEffect> = { service: "registry", noun: "connection", verb: "rollback", role: "admin" };
export const CONNECTION_SET: Operation<ConnectionSet, ConnectionEffect> = { service: "registry", noun: "connection", verb: "set", role: "admin" };
export const CONNECTION_SHOW: Operation<ConnectionShow, ConnectionView> = { service: "registry", noun: "connection", verb: "show", role: "viewer" };
export const CONNECTION_STATUS: Operation<Nothing, ConnectionStatus> = { service: "registry", noun: "connection", verb: "status", role: "viewer" };
export const COREDUMP_DELETE: Operation<CoreDumpRef, Removed> = { service: "firmware", noun: "coredump", verb: "delete", role: "admin" };
export const COREDUMP_LIST: Operation<CoreDumpList, CoreDumps> = { service: "firmware", noun: "coredump", verb: "list", role: "viewer" };
export const COREDUMP_READ: Operation<CoreDumpRead, CoreDumpBytes> = { service: "firmware", noun: "coredump", verb: "read", role: "admin" };
export const COREDUMP_REKEY: Operation<Nothing, SecretsRekeyed> = { service: "firmware", noun: "secrets", verb: "rekey", role: "admin" };
export const COREDUMP_SHOW: Operation<CoreDumpRef, CoreDumpView> = { service: "firmware", noun: "coredump", verb: "show", role: "viewer" };
export const DEVICE_ADD: Operation<DeviceAdd, DeviceView> = { service: "registry", noun: "device", verb: "add", role: "operator" };
export const DEVICE_FIND: Operation<DeviceFind, DevicesFound> = { service: "registry", noun: "device", verb: "find", role: "viewer" };
export const DEVICE_LIST: Operation<DeviceList, Devices> = { service: "registry", noun: "device", verb: "list", role: "viewer" };
export const DEVICE_NVS: Operation<DeviceNvs, NvsImage> = { service: "registry", noun: "device", verb: "nvs", role: "admin" };
export const DEVICE_PROVISION: Operation<DeviceRef, Package> = { service: "registry", noun: "device", verb: "provision", role: "admin" };
export const DEVICE_REISSUE: Operation<DeviceRef, Package> = { service: "registry", noun: "device", verb: "reissue", role: "admin" };
export const DEVICE_REMOVE: Operation<DeviceRef, Removed> = { service: "registry", noun: "device", verb: "remove", role: "admin" };
export const DEVICE_SHOW: Operation<DeviceRef, DeviceDetails> = { service: "registry", noun: "device", verb: "show", role: "viewer" };
export const DEVICE_UPDATE: Operation<DeviceUpdate, DeviceView> = { service: "registry", noun: "device", verb: "update", role: "operator" };
export const DOCTOR: Operation<Nothing, Diagnosis> = { service: "registry", noun: "doctor", verb: "run", role: "viewer" };
export const DOCTOR_REPAIR: Operation<Nothing, Diagnosis> = { service: "registry", noun: "doctor", verb: "repair", role: "admin" };
export const EVENT_LIST: Operation<EventList, Events> = { service: "registry", noun: "event", verb: "list", role: "viewer" };
export const FIRMWARE_DOCTOR: Operation<Nothing, Diagnosis> = { service: "firmware", noun: "doctor", verb: "run", role: "viewer" };
export const FIRMWARE_DOCTOR_REPAIR: Operation<Nothing, Diagnosis> = { service: "firmware", noun: "doctor", verb: "repair", role: "admin" };
export const FIRMWARE_OF: Operation<FirmwareOf, DevicesFirmware> = { service: "firmware", noun: "device", verb: "show", role: "viewer" };
export const FLEET_SHOW: Operation<Nothing, FleetView> = { service: "registry", noun: "fleet", verb: "show", role: "viewer" };
export const IMAGE_DELETE: Operation<ImageRef, Removed> = { service: "firmware", noun: "image", verb: "delete", role: "admin" };
export const IMAGE_LIST: Operation<ImageList, Images> = { service: "firmware", noun: "image", verb: "list", role: "viewer" };
export const IMAGE_PIN: Operation<ImageRef, ImageView> = { service: "firmware", noun: "image", verb: "pin", role: "operator" };
export const IMAGE_READ: Operation<ImageRead, ImageBytes> = { service: "firmware", noun: "image", verb: "read", role: "operator" };
export const IMAGE_RELEASE: Operation<ImageRef, ImageView> = { service: "firmware", noun: "image", verb: "release", role: "operator" };
export const IMAGE_SHOW: Operation<ImageRef, ImageDetails> = { service: "firmware", noun: "image", verb: "show", role: "viewer" };
export const IMAGE_UNPIN: Operation<ImageRef, ImageView> = { service: "firmware", noun: "image", verb: "unpin", role: "operator" };
export const IMAGE_WITHDRAW: Operation<Withdraw, Removed> = { service: "firmware", noun: "image", verb: "withdraw", role: "operator" };
export const KEY_ADD: Operation<KeyAdd, Keys> = { service: "firmware", noun: "key", verb: "add", role: "admin" };
export const KEY_LIST: Operation<KeyList, Keys> = { service: "firmware", noun: "key", verb: "list", role: "viewer" };
export const KEY_REMOVE: Operation<KeyRef, Keys> = { service: "firmware", noun: "key", verb: "remove", role: "admin" };
export const LAYER_LIST: Operation<Nothing, Layers> = { service: "registry", noun: "layer", verb: "list", role: "viewer" };
export const LAYER_REMOVE: Operation<LayerRef, LayerResult> = { service: "registry", noun: "layer", verb: "remove", role: "operator" };
export const LAYER_SET: Operation<LayerSet, LayerResult> = { service: "registry", noun: "layer", verb: "set", role: "operator" };
export const LAYER_SHOW: Operation<LayerRef, LayerView> = { service: "registry", noun: "layer", verb: "show", role: "viewer" };
export const LOG_LIST: Operation<LogList, LogLines> = { service: "firmware", noun: "log", verb: "list", role: "viewer" };
export const MODEL_ADD: Operation<ModelAdd, ModelView> = { service: "registry", noun: "model", verb: "add", role: "admin" };
export const MODEL_LIST: Operation<Nothing, Models> = { service: "registry", noun: "model", verb: "list", role: "viewer" };
export const MODEL_REMOVE: Operation<ModelRef, Removed> = { service: "registry", noun: "model", verb: "remove", role: "admin" };
export const MODEL_UPDATE: Operation<ModelUpdate, ModelChanged> = { service: "registry", noun: "model", verb: "update", role: "admin" };
export const NOTIFICATION_ADD: Operation<NotificationAdd, NotificationRuleAdded> = { service: "registry", noun: "notification", verb: "add", role: "admin" };
export const NOTIFICATION_HISTORY: Operation<NotificationHistory, Notifications> = { service: "registry", noun: "notification", verb: "history", role: "viewer" };
export const NOTIFICATION_LIST: Operation<Nothing, NotificationRules> = { service: "registry", noun: "notification", verb: "list", role: "viewer" };
export const NOTIFICATION_REMOVE: Operation<NotificationRef, Removed> = { service: "registry", noun: "notification", verb: "remove", role: "admin" };
export const NOTIFICATION_TEST: Operation<NotificationRef, NotificationQueued> = { service: "registry", noun: "notification", verb: "test", role: "operator" };
export const RECOVERY_REKEY: Operation<Nothing, SecretsRekeyed> = { service: "registry", noun: "secrets", verb: "rekey", role: "admin" };
export const ROLLOUT_ABORT: Operation<RolloutAbort, RolloutStatus> = { service: "firmware", noun: "rollout", verb: "abort", role: "operator" };
export const ROLLOUT_LIST: Operation<RolloutList, Rollouts> = { service: "firmware", noun: "rollout", verb: "list", role: "viewer" };
export const ROLLOUT_PAUSE: Operation<RolloutRef, RolloutStatus> = { service: "firmware", noun: "rollout", verb: "pause", role: "operator" };
export const ROLLOUT_PREFLIGHT: Operation<RolloutPreflight, RolloutFindings> = { service: "firmware", noun: "rollout", verb: "preflight", role: "viewer" };
export const ROLLOUT_RESUME: Operation<RolloutRef, RolloutStatus> = { service: "firmware", noun: "rollout", verb: "resume", role: "operator" };
export const ROLLOUT_START: Operation<RolloutStart, RolloutStatus> = { service: "firmware", noun: "rollout", verb: "start", role: "operator" };
export const ROLLOUT_STATUS: Operation<RolloutShow, RolloutStatus> = { service: "firmware", noun: "rollout", verb: "status", role: "viewer" };
export const ROTATION_CANCEL: Operation<RotationCancel, RotationsCancelled> = { service: "rotator", noun: "rotation", verb: "cancel", role: "operator" };
export const ROTATION_HISTORY: Operation<RotationHistory, Rotations> = { service: "rotator", noun: "rotation", verb: "history", role: "viewer" };
export const ROTATION_START: Operation<RotationStart, RotationQueued> = { service: "rotator", noun: "rotation", verb: "start", role: "operator" };
export const ROTATION_STATUS: Operation<RotationStatus, RotationOverview> = { service: "rotator", noun: "rotation", verb: "status", role: "viewer" };
export const SCHEDULE_CLEAR: Operation<Nothing, RotationScheduleView> = { service: "rotator", noun: "schedule", verb: "clear", role: "admin" };
export const SCHEDULE_SET: Operation<ScheduleSet, RotationScheduleView> = { service: "rotator", noun: "schedule", verb: "set", role: "admin" };
export const SCHEDULE_SHOW: Operation<Nothing, RotationScheduleView> = { service: "rotator", noun: "schedule", verb: "show", role: "viewer" };
export const SECRETS_REKEY: Operation<Nothing, SecretsRekeyed> = { service: "rotator", noun: "secrets", verb: "rekey", role: "admin" };
export const UPLOAD_BEGIN: Operation<UploadBegin, Upload> = { service: "firmware", noun: "upload", verb: "begin", role: "operator" };
export const UPLOAD_CHUNK: Operation<UploadChunk, Received> = { service: "firmware", noun: "upload", verb: "chunk", role: "operator" };
export const UPLOAD_FINISH: Operation<UploadFinish, ImageView> = { service: "firmware", noun: "upload", verb: "finish", role: "operator" };
export const VITALS_COMPARE: Operation<VitalsCompare, VitalsCompared> = { service: "firmware", noun: "vitals", verb: "compare", role: "viewer" };
export const VITALS_SHOW: Operation<VitalsShow, DeviceVitals> = { service: "firmware", noun: "vitals", verb: "show", role: "viewer" };

export type NamedEvent =
  /** A model was added. */
  | Told<"model", "added", undefined, ModelFacts>
  /** A model was changed. */
  | Told<"model", "updated", undefined, ModelUpdateFacts>
  /** A model was removed. */
  | Told<"model", "removed", undefined, ModelFacts>
  /** A device was added, with its identity. */
  | Told<"device", "added", string, NoFacts>
  /** A device was changed. */
  | Told<"device", "updated", string, DeviceUpdateFacts>
  /** A device's package was issued. */
  | Told<"device", "provisioned", string, NoFacts>
  /** A device got a new secret in a new package; the old one is refused. */
  | Told<"device", "reissued", string, NoFacts>
  /** A device was removed, with its identity. */
  | Told<"device", "removed", string, NoFacts>
  /** A device has connected. */
  | Told<"device", "online", string, OnlineFacts>
  /** A device that sleeps has disconnected; it is to be back by then. */
  | Told<"device", "asleep", string, AsleepFacts>
  /** A device has disconnected, or its connection is lost, or it was asleep and is not back in time. */
  | Told<"device", "offline", string, NoFacts>
  /** The health of a device has changed, or a reason of it. */
  | Told<"device", "health_changed", string, HealthFacts>
  /** The broker has refused a device, for the first time since it was last seen. */
  | Told<"device", "refused", string, NoFacts>
  /** Two boards have the same identity and end each other's connection; once, until that is over for ten minutes. */
  | Told<"device", "clashed", string, NoFacts>
  /** A device has registered the key by which it can recover. */
  | Told<"device", "key_registered", string, NoFacts>
  /** A device has another key than the registered one, which stays. */
  | Told<"device", "key_refused", string, NoFacts>
  /** A device whose secrets were refused got one by its key. */
  | Told<"device", "recovered", string, RecoveryFacts>
  /** Database, Keycloak and broker held different secrets of a device. */
  | Told<"device", "split", string, SplitFacts>
  /** A device, claim or admin account without a row was disabled; `client_id` is its name. */
  | Told<"device", "stray", string, NoFacts>
  /** A device's configuration has a new version. */
  | Told<"config", "changed", string, ConfigFacts>
  /** A device has reported the outcome of a configuration. */
  | Told<"config", "reported", string, ConfigReportFacts>
  /** A device has reverted a configuration on trial, which was replaced. */
  | Told<"config", "restored", string, ConfigRestoreFacts>
  /** A layer was created or changed. */
  | Told<"layer", "changed", undefined, LayerFacts>
  /** A layer was removed. */
  | Told<"layer", "removed", undefined, LayerFacts>
  /** A layer of connection profiles was set or removed. */
  | Told<"connection", "changed", string | undefined, ConnectionChangeFacts>
  /** A device has kept another connection profile, or uses its own again after its fall-back. */
  | Told<"connection", "applied", string, ConnectionFacts>
  /** A device did not keep a connection profile that it was sent. */
  | Told<"connection", "reverted", string, ConnectionRefusalFacts>
  /** A device cannot connect with its profile, and uses the former one. */
  | Told<"connection", "fell_back", string, ConnectionFacts>
  /** A command was sent. */
  | Told<"command", "sent", undefined, CommandBatchFacts>
  /** A device has answered a command. */
  | Told<"command", "answered", string, CommandAnswerFacts>
  /** An admin's account was created. */
  | Told<"account", "added", undefined, AccountFacts>
  /** An account got another role or password. */
  | Told<"account", "updated", undefined, AccountFacts>
  /** An account was removed. */
  | Told<"account", "removed", undefined, AccountFacts>
  /** A claim was created. */
  | Told<"claim", "added", undefined, ClaimAddedFacts>
  /** A claim was revoked. */
  | Told<"claim", "revoked", undefined, ClaimFacts>
  /** A machine has requested an identity for the first time. */
  | Told<"claim", "requested", undefined, MachineFacts>
  /** A machine was denied an identity. */
  | Told<"claim", "denied", undefined, MachineFacts>
  /** A machine has become a device. */
  | Told<"claim", "granted", string, MachineFacts>
  /** Devices were queued for a new secret. */
  | Told<"rotation", "queued", string | undefined, SelectionFacts>
  /** Rotations were cancelled; one in progress ends by its own rules. */
  | Told<"rotation", "cancelled", string | undefined, SelectionFacts>
  /** The schedule has queued all devices that are enabled. */
  | Told<"rotation", "scheduled", undefined, ScheduleFacts>
  /** The schedule of rotations was changed. */
  | Told<"schedule", "changed", undefined, ScheduleChangeFacts>
  /** A device was offered a new secret. */
  | Told<"rotation", "offered", string, RotationOfferFacts>
  /** A device was sent its new secret. */
  | Told<"rotation", "delivered", string, RotationFacts>
  /** A device has proven that it stored its new secret. */
  | Told<"rotation", "stored", string, RotationFacts>
  /** Keycloak and the broker have the new secret. */
  | Told<"rotation", "switched", string, RotationFacts>
  /** A device has its new secret. */
  | Told<"rotation", "completed", string, RotationDoneFacts>
  /** A rotation has ended with the old secret in force. */
  | Told<"rotation", "timed_out", string, RotationTimeoutFacts>
  /** A device has left before the switch: its rotation has ended, and it is queued again. */
  | Told<"rotation", "withdrawn", string, RotationTimeoutFacts>
  /** A device's proof of its new secret was wrong. */
  | Told<"rotation", "proof_refused", string, RotationProofFacts>
  /** A device's present secret is not the known one, which is then never restored. */
  | Told<"rotation", "split_found", string, RotationProofFacts>
  /** The secrets at rest were encrypted again. */
  | Told<"secrets", "rekeyed", undefined, RekeyFacts>
  /** An image was stored. */
  | Told<"firmware", "uploaded", undefined, ImageFacts>
  /** A stored image got another signature. */
  | Told<"firmware", "signed", undefined, ImageFacts>
  /** An image was made its model's image. */
  | Told<"firmware", "released", undefined, ReleaseFacts>
  /** A model was left without an image. */
  | Told<"firmware", "withdrawn", undefined, ReleaseFacts>
  /** An image was exempted from retention. */
  | Told<"firmware", "pinned", undefined, ImageFacts>
  /** An image is no longer exempt from retention. */
  | Told<"firmware", "unpinned", undefined, ImageFacts>
  /** An image was deleted. */
  | Told<"firmware", "deleted", undefined, ImageDeletedFacts>
  /** A model trusts another key. */
  | Told<"firmware", "key_added", undefined, SigningKeyFacts>
  /** A model no longer trusts a key. */
  | Told<"firmware", "key_removed", undefined, SigningKeyFacts>
  /** A device was offered an image. */
  | Told<"firmware", "offered", string, FirmwareOfferFacts>
  /** A device does not get the image that it should have: told once for each reason. */
  | Told<"firmware", "withheld", string, FirmwareWithheldFacts>
  /** A device has reported progress with an image, also one in a rollout. */
  | Told<"firmware", "reported", string, FirmwareReportFacts>
  /** A device's core dump was stored. */
  | Told<"coredump", "stored", string, CoreDumpStoredFacts>
  /** A device's core dump has another hash than was offered. */
  | Told<"coredump", "refused", string, CoreDumpRefusedFacts>
  /** A core dump was deleted. */
  | Told<"coredump", "deleted", string, CoreDumpFacts>
  /** The keys of core dumps were encrypted again. */
  | Told<"coredump", "rekeyed", undefined, RekeyFacts>
  /** A rollout has begun. */
  | Told<"rollout", "started", undefined, RolloutStartFacts>
  /** A wave has been opened. */
  | Told<"rollout", "wave_opened", undefined, RolloutWaveFacts>
  /** Enough devices of a wave have confirmed the image. */
  | Told<"rollout", "wave_met", undefined, RolloutWaveFacts>
  /** An admin has paused a rollout. */
  | Told<"rollout", "paused", undefined, RolloutMoveFacts>
  /** An admin has resumed a rollout. */
  | Told<"rollout", "resumed", undefined, RolloutMoveFacts>
  /** A rollout has halted by itself. */
  | Told<"rollout", "halted", undefined, RolloutMoveFacts>
  /** An admin has aborted a rollout. */
  | Told<"rollout", "aborted", undefined, RolloutMoveFacts>
  /** A rollout has reached its end. */
  | Told<"rollout", "completed", undefined, RolloutMoveFacts>;

export const ADMIN_TOPIC = "mdm/v1/admin/{account}/{service}/{noun}/{verb}";
export const REPLY_TOPIC = "mdm/v1/replies/{account}/{client_id}";
export const EVENT_TOPIC = "mdm/v1/events/{noun}/{verb}";
export const SERVICE_STATUS_TOPIC = "mdm/v1/services/{name}/{instance}/status";
