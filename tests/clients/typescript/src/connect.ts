import { readFileSync } from "node:fs";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { InstanceService } from "../gen/stillpoint/compute/v1/instance_service_pb.js";
import { BlockService } from "../gen/stillpoint/disk/v1/block_service_pb.js";
import { DiskService } from "../gen/stillpoint/disk/v1/disk_service_pb.js";
import { OperationService } from "../gen/stillpoint/operation/v1/operation_service_pb.js";
import { InstanceSnapshotService } from "../gen/stillpoint/snapshot/v1/instance_snapshot_service_pb.js";

/**
 * A client for each service that the main job calls. Every service follows its own operations; the ones that are
 * watched here are all snapshot_svc's or disk_svc's.
 */
export interface Stillpoint {
  instances: Client<typeof InstanceService>;
  disks: Client<typeof DiskService>;
  blocks: Client<typeof BlockService>;
  diskOperations: Client<typeof OperationService>;
  snapshots: Client<typeof InstanceSnapshotService>;
  snapshotOperations: Client<typeof OperationService>;
}

export function connect(): Stillpoint {
  const disk = transport("STILLPOINT_DISK", "127.0.0.1:50052");
  const snapshot = transport("STILLPOINT_SNAPSHOT", "127.0.0.1:50053");
  return {
    instances: createClient(InstanceService, transport("STILLPOINT_COMPUTE", "127.0.0.1:50051")),
    disks: createClient(DiskService, disk),
    blocks: createClient(BlockService, disk),
    diskOperations: createClient(OperationService, disk),
    snapshots: createClient(InstanceSnapshotService, snapshot),
    snapshotOperations: createClient(OperationService, snapshot),
  };
}

/** Plaintext, or, where STILLPOINT_CA names the PEM file of the CA of the public ports, TLS. */
function transport(setting: string, otherwise: string): Transport {
  const address = process.env[setting] || otherwise;
  const { STILLPOINT_CA: ca, STILLPOINT_TOKEN: token } = process.env;
  if (token && !ca) {
    throw new Error("STILLPOINT_TOKEN is not sent in plaintext: set STILLPOINT_CA too");
  }
  return createGrpcTransport({
    baseUrl: `${ca ? "https" : "http"}://${address}`,
    nodeOptions: ca ? { ca: readFileSync(ca) } : {},
    interceptors: token ? [bearer(token)] : [],
    defaultTimeoutMs: 60_000,
  });
}

function bearer(token: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}
