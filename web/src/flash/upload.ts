import { sideBySide } from "../lib/sideBySide.ts";
import { UPLOAD_BEGIN, UPLOAD_CHUNK, UPLOAD_FINISH, type ImageView } from "../protocol.ts";
import { ask } from "../state/session.ts";

/** So many chunks are under way at once. */
const SIDE_BY_SIDE = 4;

interface Wanted {
  readonly model: string;
  /** Its label; by default the version embedded in the image. */
  readonly version: string | undefined;
  readonly data: Uint8Array;
  /** Called with the sent share, 0 to 1. */
  readonly progress: (share: number) => void;
}

/** Stores an image without releasing it; one that was interrupted resumes where it stopped. */
export async function uploadImage({ model, version, data, progress }: Wanted): Promise<ImageView> {
  const [{ sha256 }, { bytesToHex }] = await Promise.all([
    import("@noble/hashes/sha2.js"),
    import("@noble/hashes/utils.js"),
  ]);
  const upload = await ask(UPLOAD_BEGIN, {
    model,
    sha256: bytesToHex(sha256(data)),
    size_bytes: data.length,
    ...(version && { version }),
  });
  let sent = 0;
  await sideBySide(upload.missing, SIDE_BY_SIDE, async (offset) => {
    const chunk = data.subarray(offset, offset + upload.chunk_size_bytes);
    await ask(UPLOAD_CHUNK, { upload_id: upload.upload_id, offset, data: base64(chunk) });
    sent += 1;
    progress(sent / upload.missing.length);
  });
  return ask(UPLOAD_FINISH, { upload_id: upload.upload_id, release: false });
}

function base64(data: Uint8Array): string {
  const pieces: string[] = [];
  for (let start = 0; start < data.length; start += 0x8000) {
    pieces.push(String.fromCharCode(...data.subarray(start, start + 0x8000)));
  }
  return btoa(pieces.join(""));
}
