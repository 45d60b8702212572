import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WriteBlocksRequestSchema } from "../gen/stillpoint/disk/v1/block_service_pb.js";
import type { Stillpoint } from "./connect.js";

// A message holds up to 4 MiB in all; 256 KiB is where a larger one gains nothing.
const messageBytes = 256 * 1024;

/** Writes to the beginning of a disk, and returns when all of it is durable. */
export async function writeBlocks(client: Stillpoint, diskId: string, content: Uint8Array): Promise<void> {
  let durable = 0n;
  // Messages are sent ahead while answers come.
  for await (const answer of client.blocks.writeBlocks(messages(diskId, content))) {
    durable = answer.bytesDurable;
  }
  if (durable !== BigInt(content.length)) {
    throw new Error(`${durable} of ${content.length} bytes of ${diskId} are durable`);
  }
}

async function* messages(
  diskId: string,
  content: Uint8Array,
): AsyncGenerator<MessageInitShape<typeof WriteBlocksRequestSchema>> {
  for (let offset = 0; offset < content.length; offset += messageBytes) {
    const data = content.subarray(offset, offset + messageBytes);
    yield { diskId, extents: [{ offsetBytes: BigInt(offset), data }] };
  }
}

/** Reads a disk from its beginning. */
export async function readBlocks(client: Stillpoint, diskId: string, length: number): Promise<Uint8Array> {
  const content = new Uint8Array(length);
  const pieces = client.blocks.readBlocks({
    source: { case: "diskId", value: diskId },
    lengthBytes: BigInt(length),
  });
  for await (const piece of pieces) {
    // A piece without data reads zero, as content does already.
    content.set(piece.data, Number(piece.offsetBytes));
  }
  return content;
}
