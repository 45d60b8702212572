/**
 * The main job of Stillpoint, as a TypeScript program does it: a snapshot of a whole machine, and the way back to it.
 *
 * The clients in gen/ come from protos/: `npm run generate` makes them, as buf.gen.yaml says. STILLPOINT_COMPUTE,
 * STILLPOINT_DISK and STILLPOINT_SNAPSHOT say where the services are, each as host:port; without them, where
 * `stillpoint up` has them. STILLPOINT_CA and STILLPOINT_TOKEN are for a deployment with TLS and bearer tokens.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { create, equals } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, PreconditionFailureSchema } from "../gen/google/rpc/error_details_pb.js";
import { type Operation, Operation_State } from "../gen/stillpoint/operation/v1/operation_pb.js";
import type { OperationService } from "../gen/stillpoint/operation/v1/operation_service_pb.js";
import { InstanceSnapshot_State } from "../gen/stillpoint/snapshot/v1/instance_snapshot_pb.js";
import {
  CreateInstanceSnapshotRequestSchema,
  CreateInstanceSnapshotResponseSchema,
} from "../gen/stillpoint/snapshot/v1/instance_snapshot_service_pb.js";
import { readBlocks, writeBlocks } from "./blocks.js";
import { connect, type Stillpoint } from "./connect.js";

const diskBytes = 64n << 20n;
const contentBytes = 1 << 20;

async function mainJob(client: Stillpoint): Promise<void> {
  const created = await client.instances.createInstance({
    requestId: randomUUID(),
    name: "written-in-typescript",
    systemDisk: { sizeBytes: diskBytes },
    dataDisks: [{ sizeBytes: diskBytes }, { sizeBytes: diskBytes }],
  });
  const { id: instanceId, systemDiskId } = present(created.instance);
  const diskIds = [systemDiskId, ...created.dataDiskIds];
  console.log(`created ${instanceId} with ${diskIds.length} disks`);

  const before = await fillDisks(client, diskIds);
  const snapshotId = await takeSnapshot(client, instanceId, "before");
  // Something goes wrong.
  await fillDisks(client, diskIds);

  await meetRefusal(client, snapshotId);
  await client.instances.stopInstance({ requestId: randomUUID(), instanceId });
  console.log(`stopped ${instanceId}`);

  // What the disks hold now is lost with a rollback, unless it is kept first.
  await takeSnapshot(client, instanceId, "after");
  await rollBack(client, snapshotId);
  await compareDisks(client, before);

  for (const id of await listSnapshots(client, instanceId)) {
    await deleteSnapshot(client, id);
  }
  await deleteInstance(client, instanceId);
}

/** Writes random bytes to the beginning of each disk, and returns them. */
async function fillDisks(client: Stillpoint, diskIds: string[]): Promise<Map<string, Uint8Array>> {
  const contents = new Map<string, Uint8Array>();
  for (const id of diskIds) {
    const content = randomBytes(contentBytes);
    await writeBlocks(client, id, content);
    contents.set(id, content);
  }
  console.log(`wrote ${contentBytes} bytes to each of ${diskIds.length} disks`);
  return contents;
}

/** Returns when the snapshot is available. Its moment is fixed as soon as it is answered. */
async function takeSnapshot(client: Stillpoint, instanceId: string, name: string): Promise<string> {
  const request = create(CreateInstanceSnapshotRequestSchema, {
    requestId: randomUUID(),
    source: { case: "instanceId", value: instanceId },
    name,
  });
  const answer = await client.snapshots.createInstanceSnapshot(request);
  const taken = present(answer.instanceSnapshot);
  const moment = timestampDate(present(taken.cutTime)).toISOString();
  console.log(`took ${taken.id} of ${taken.members.length} disks at ${moment}`);
  await watch(client.snapshotOperations, answer.operationId);
  // As after an answer that was lost: the same request has one effect, and gets the first answer again.
  const again = await client.snapshots.createInstanceSnapshot(request);
  if (!equals(CreateInstanceSnapshotResponseSchema, again, answer)) {
    throw new Error(`the same request was answered with ${answer.operationId}, then with ${again.operationId}`);
  }
  console.log("the same request_id got the same answer");
  return taken.id;
}

/** Follows an operation to its end. */
async function watch(operations: Client<typeof OperationService>, operationId: string): Promise<void> {
  let last: Operation | undefined;
  for await (const { operation } of operations.watchOperation({ operationId })) {
    last = operation;
  }
  const { kind, state, error } = present(last);
  if (state !== Operation_State.SUCCEEDED) {
    throw new Error(`${operationId} ended in ${Operation_State[state]}: ${error?.message}`);
  }
  console.log(`${operationId} ${kind} succeeded`);
}

/** Asks for a rollback while the instance runs, and prints everything that stands against it. */
async function meetRefusal(client: Stillpoint, instanceSnapshotId: string): Promise<void> {
  const refusal = await client.snapshots.rollbackInstanceSnapshot({ instanceSnapshotId }).then(
    () => undefined,
    (reason: unknown) => ConnectError.from(reason),
  );
  if (refusal?.code !== Code.FailedPrecondition) {
    throw new Error("a rollback of a running instance was not refused", { cause: refusal });
  }
  for (const info of refusal.findDetails(ErrorInfoSchema)) {
    console.log(`refused: ${info.reason} (${info.domain})`);
  }
  for (const { violations } of refusal.findDetails(PreconditionFailureSchema)) {
    for (const { type, subject, description } of violations) {
      console.log(`  ${type} ${subject}: ${description}`);
    }
  }
}

async function rollBack(client: Stillpoint, instanceSnapshotId: string): Promise<void> {
  const answer = await client.snapshots.rollbackInstanceSnapshot({
    requestId: randomUUID(),
    instanceSnapshotId,
  });
  await watch(client.snapshotOperations, answer.operationId);
}

async function compareDisks(client: Stillpoint, contents: Map<string, Uint8Array>): Promise<void> {
  for (const [id, content] of contents) {
    const found = await readBlocks(client, id, content.length);
    if (Buffer.compare(found, content) !== 0) {
      throw new Error(`${id} does not hold what it held at the snapshot's moment`);
    }
  }
  console.log(`${contents.size} disks hold what they held at the snapshot's moment`);
}

/** An instance's snapshots, newest first. A page holds one here, so that there are several. */
async function listSnapshots(client: Stillpoint, instanceId: string): Promise<string[]> {
  const ids: string[] = [];
  let pageToken = "";
  let page = 0;
  do {
    const answer = await client.snapshots.listInstanceSnapshots({
      filter: { instanceId },
      pageSize: 1,
      pageToken,
    });
    page += 1;
    for (const { id, name, state } of answer.instanceSnapshots) {
      console.log(`page ${page}: ${id} ${name} ${InstanceSnapshot_State[state]}`);
      ids.push(id);
    }
    pageToken = answer.nextPageToken;
  } while (pageToken);
  return ids;
}

async function deleteSnapshot(client: Stillpoint, instanceSnapshotId: string): Promise<void> {
  const answer = await client.snapshots.deleteInstanceSnapshot({ requestId: randomUUID(), instanceSnapshotId });
  await watch(client.snapshotOperations, answer.operationId);
}

/** Deletes an instance with all its disks. The system disk goes with it; data disks would stay. */
async function deleteInstance(client: Stillpoint, instanceId: string): Promise<void> {
  const answer = await client.instances.deleteInstance({ requestId: randomUUID(), instanceId });
  for (const diskId of answer.detachedDiskIds) {
    const deletion = await client.disks.deleteDisk({ requestId: randomUUID(), diskId });
    await watch(client.diskOperations, deletion.operationId);
  }
  console.log(`deleted ${instanceId} with its disks`);
}

/** A message field is typed as if it could be absent. Those that are read here never are. */
function present<T>(field: T | undefined): T {
  if (field === undefined) {
    throw new Error("an answer lacks a field that it always has");
  }
  return field;
}

await mainJob(connect());
