package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	computev1 "stillpoint.example/client/gen/stillpoint/compute/v1"
	diskv1 "stillpoint.example/client/gen/stillpoint/disk/v1"
	operationv1 "stillpoint.example/client/gen/stillpoint/operation/v1"
	snapshotv1 "stillpoint.example/client/gen/stillpoint/snapshot/v1"
)

// stillpoint has a client for each service that the main job calls. Every service follows its own operations; the ones
// that are watched here are all snapshot_svc's or disk_svc's.
type stillpoint struct {
	instances          computev1.InstanceServiceClient
	disks              diskv1.DiskServiceClient
	blocks             diskv1.BlockServiceClient
	diskOperations     operationv1.OperationServiceClient
	snapshots          snapshotv1.InstanceSnapshotServiceClient
	snapshotOperations operationv1.OperationServiceClient
}

func connect() (*stillpoint, error) {
	options, err := dialOptions()
	if err != nil {
		return nil, err
	}
	compute, computeErr := grpc.NewClient(setting("STILLPOINT_COMPUTE", "127.0.0.1:50051"), options...)
	disk, diskErr := grpc.NewClient(setting("STILLPOINT_DISK", "127.0.0.1:50052"), options...)
	snapshot, snapshotErr := grpc.NewClient(setting("STILLPOINT_SNAPSHOT", "127.0.0.1:50053"), options...)
	if err := errors.Join(computeErr, diskErr, snapshotErr); err != nil {
		return nil, err
	}
	return &stillpoint{
		instances:          computev1.NewInstanceServiceClient(compute),
		disks:              diskv1.NewDiskServiceClient(disk),
		blocks:             diskv1.NewBlockServiceClient(disk),
		diskOperations:     operationv1.NewOperationServiceClient(disk),
		snapshots:          snapshotv1.NewInstanceSnapshotServiceClient(snapshot),
		snapshotOperations: operationv1.NewOperationServiceClient(snapshot),
	}, nil
}

func setting(name, otherwise string) string {
	return cmp.Or(os.Getenv(name), otherwise)
}

// dialOptions speaks plaintext, or, where STILLPOINT_CA names the PEM file of the CA of the public ports, TLS.
func dialOptions() ([]grpc.DialOption, error) {
	ca, token := os.Getenv("STILLPOINT_CA"), os.Getenv("STILLPOINT_TOKEN")
	if token != "" && ca == "" {
		return nil, errors.New("STILLPOINT_TOKEN is not sent in plaintext: set STILLPOINT_CA too")
	}
	transport := insecure.NewCredentials()
	if ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, fmt.Errorf("STILLPOINT_CA: %w", err)
		}
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearerToken(token)))
	}
	return options, nil
}

// bearerToken goes with every call.
type bearerToken string

func (token bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearerToken) RequireTransportSecurity() bool { return true }
