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
  const waiting = [...upload.missing];
  const count = waiting.length;
  const sender = async () => {
    for (let offset = waiting.shift(); offset !== undefined; offset = waiting.shift()) {
      const chunk = data.subarray(offset, offset + upload.chunk_size_bytes);
      await ask(UPLOAD_CHUNK, { upload_id: upload.upload_id, offset, data: base64(chunk) });
      progress(1 - waiting.length / count);
    }
  };
  await Promise.all(Array.from({ length: SIDE_BY_SIDE }, sender));
  return ask(UPLOAD_FINISH, { upload_id: upload.upload_id, release: false });
}

function base64(data: Uint8Array): string {
  const pieces: string[] = [];
  for (let start = 0; start < data.length; start += 0x8000) {
    pieces.push(String.fromCharCode(...data.subarray(start, start + 0x8000)));
  }
  return btoa(pieces.join(""));
}
