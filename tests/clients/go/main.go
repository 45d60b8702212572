// The main job of Stillpoint, as a Go program does it: a snapshot of a whole machine, and the way back to it.
//
// The clients in gen/ come from protos/: `buf generate` makes them, as buf.gen.yaml says. STILLPOINT_COMPUTE,
// STILLPOINT_DISK and STILLPOINT_SNAPSHOT say where the services are, each as host:port; without them, where
// `stillpoint up` has them. STILLPOINT_CA and STILLPOINT_TOKEN are for a deployment with TLS and bearer tokens.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	computev1 "stillpoint.example/client/gen/stillpoint/compute/v1"
	diskv1 "stillpoint.example/client/gen/stillpoint/disk/v1"
	operationv1 "stillpoint.example/client/gen/stillpoint/operation/v1"
	snapshotv1 "stillpoint.example/client/gen/stillpoint/snapshot/v1"
)

const (
	diskBytes    = 64 << 20
	contentBytes = 1 << 20
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := mainJob(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}

func mainJob(ctx context.Context) error {
	client, err := connect()
	if err != nil {
		return err
	}

	created, err := client.instances.CreateInstance(ctx, &computev1.CreateInstanceRequest{
		RequestId:  uuid.NewString(),
		Name:       "written-in-go",
		SystemDisk: &computev1.NewDisk{SizeBytes: diskBytes},
		DataDisks:  []*computev1.NewDisk{{SizeBytes: diskBytes}, {SizeBytes: diskBytes}},
	})
	if err != nil {
		return err
	}
	instanceID := created.GetInstance().GetId()
	diskIDs := append([]string{created.GetInstance().GetSystemDiskId()}, created.GetDataDiskIds()...)
	fmt.Printf("created %s with %d disks\n", instanceID, len(diskIDs))

	before, err := client.fillDisks(ctx, diskIDs)
	if err != nil {
		return err
	}
	snapshotID, err := client.takeSnapshot(ctx, instanceID, "before")
	if err != nil {
		return err
	}
	// Something goes wrong.
	if _, err := client.fillDisks(ctx, diskIDs); err != nil {
		return err
	}

	if err := client.meetRefusal(ctx, snapshotID); err != nil {
		return err
	}
	stop := &computev1.StopInstanceRequest{RequestId: uuid.NewString(), InstanceId: instanceID}
	if _, err := client.instances.StopInstance(ctx, stop); err != nil {
		return err
	}
	fmt.Printf("stopped %s\n", instanceID)

	// What the disks hold now is lost with a rollback, unless it is kept first.
	if _, err := client.takeSnapshot(ctx, instanceID, "after"); err != nil {
		return err
	}
	if err := client.rollBack(ctx, snapshotID); err != nil {
		return err
	}
	if err := client.compareDisks(ctx, before); err != nil {
		return err
	}

	snapshotIDs, err := client.listSnapshots(ctx, instanceID)
	if err != nil {
		return err
	}
	for _, id := range snapshotIDs {
		if err := client.deleteSnapshot(ctx, id); err != nil {
			return err
		}
	}
	return client.deleteInstance(ctx, instanceID)
}

// fillDisks writes random bytes to the beginning of each disk, and returns them.
func (client *stillpoint) fillDisks(ctx context.Context, diskIDs []string) (map[string][]byte, error) {
	contents := map[string][]byte{}
	for _, id := range diskIDs {
		content := make([]byte, contentBytes)
		// Never fails: it ends the program rather.
		_, _ = rand.Read(content)
		if err := writeBlocks(ctx, client.blocks, id, content); err != nil {
			return nil, err
		}
		contents[id] = content
	}
	fmt.Printf("wrote %d bytes to each of %d disks\n", contentBytes, len(diskIDs))
	return contents, nil
}

// takeSnapshot returns when the snapshot is available. Its moment is fixed as soon as it is answered.
func (client *stillpoint) takeSnapshot(ctx context.Context, instanceID, name string) (string, error) {
	request := &snapshotv1.CreateInstanceSnapshotRequest{
		RequestId: uuid.NewString(),
		Source:    &snapshotv1.CreateInstanceSnapshotRequest_InstanceId{InstanceId: instanceID},
		Name:      name,
	}
	answer, err := client.snapshots.CreateInstanceSnapshot(ctx, request)
	if err != nil {
		return "", err
	}
	taken := answer.GetInstanceSnapshot()
	moment := taken.GetCutTime().AsTime().Format(time.RFC3339Nano)
	fmt.Printf("took %s of %d disks at %s\n", taken.GetId(), len(taken.GetMembers()), moment)
	if err := watch(ctx, client.snapshotOperations, answer.GetOperationId()); err != nil {
		return "", err
	}
	// As after an answer that was lost: the same request has one effect, and gets the first answer again.
	again, err := client.snapshots.CreateInstanceSnapshot(ctx, request)
	if err != nil {
		return "", err
	}
	if !proto.Equal(again, answer) {
		return "", fmt.Errorf("the same request was answered with %v, then with %v", answer, again)
	}
	fmt.Println("the same request_id got the same answer")
	return taken.GetId(), nil
}

// watch follows an operation to its end.
func watch(ctx context.Context, operations operationv1.OperationServiceClient, operationID string) error {
	stream, err := operations.WatchOperation(ctx, &operationv1.WatchOperationRequest{OperationId: operationID})
	if err != nil {
		return err
	}
	var last *operationv1.Operation
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = answer.GetOperation()
	}
	if last.GetState() != operationv1.Operation_STATE_SUCCEEDED {
		return fmt.Errorf("%s ended in %s: %s", operationID, last.GetState(), last.GetError().GetMessage())
	}
	fmt.Printf("%s %s succeeded\n", operationID, last.GetKind())
	return nil
}

// meetRefusal asks for a rollback while the instance runs, and prints everything that stands against it.
func (client *stillpoint) meetRefusal(ctx context.Context, snapshotID string) error {
	_, err := client.snapshots.RollbackInstanceSnapshot(ctx, &snapshotv1.RollbackInstanceSnapshotRequest{
		InstanceSnapshotId: snapshotID,
	})
	refusal := status.Convert(err)
	if refusal.Code() != codes.FailedPrecondition {
		return fmt.Errorf("a rollback of a running instance was not refused: %w", err)
	}
	for _, detail := range refusal.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("refused: %s (%s)\n", detail.GetReason(), detail.GetDomain())
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				fmt.Printf("  %s %s: %s\n", violation.GetType(), violation.GetSubject(), violation.GetDescription())
			}
		}
	}
	return nil
}

func (client *stillpoint) rollBack(ctx context.Context, snapshotID string) error {
	answer, err := client.snapshots.RollbackInstanceSnapshot(ctx, &snapshotv1.RollbackInstanceSnapshotRequest{
		RequestId:          uuid.NewString(),
		InstanceSnapshotId: snapshotID,
	})
	if err != nil {
		return err
	}
	return watch(ctx, client.snapshotOperations, answer.GetOperationId())
}

func (client *stillpoint) compareDisks(ctx context.Context, contents map[string][]byte) error {
	for id, content := range contents {
		found, err := readBlocks(ctx, client.blocks, id, len(content))
		if err != nil {
			return err
		}
		if !bytes.Equal(found, content) {
			return fmt.Errorf("%s does not hold what it held at the snapshot's moment", id)
		}
	}
	fmt.Printf("%d disks hold what they held at the snapshot's moment\n", len(contents))
	return nil
}

// listSnapshots returns an instance's snapshots, newest first. A page holds one here, so that there are several.
func (client *stillpoint) listSnapshots(ctx context.Context, instanceID string) ([]string, error) {
	request := &snapshotv1.ListInstanceSnapshotsRequest{
		Filter:   &snapshotv1.ListInstanceSnapshotsRequest_Filter{InstanceId: instanceID},
		PageSize: 1,
	}
	var ids []string
	for page := 1; ; page++ {
		answer, err := client.snapshots.ListInstanceSnapshots(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, snapshot := range answer.GetInstanceSnapshots() {
			fmt.Printf("page %d: %s %s %s\n", page, snapshot.GetId(), snapshot.GetName(), snapshot.GetState())
			ids = append(ids, snapshot.GetId())
		}
		request.PageToken = answer.GetNextPageToken()
		if request.PageToken == "" {
			return ids, nil
		}
	}
}

func (client *stillpoint) deleteSnapshot(ctx context.Context, snapshotID string) error {
	answer, err := client.snapshots.DeleteInstanceSnapshot(ctx, &snapshotv1.DeleteInstanceSnapshotRequest{
		RequestId:          uuid.NewString(),
		InstanceSnapshotId: snapshotID,
	})
	if err != nil {
		return err
	}
	return watch(ctx, client.snapshotOperations, answer.GetOperationId())
}

// deleteInstance deletes an instance with all its disks. The system disk goes with it; data disks would stay.
func (client *stillpoint) deleteInstance(ctx context.Context, instanceID string) error {
	answer, err := client.instances.DeleteInstance(ctx, &computev1.DeleteInstanceRequest{
		RequestId:  uuid.NewString(),
		InstanceId: instanceID,
	})
	if err != nil {
		return err
	}
	for _, id := range answer.GetDetachedDiskIds() {
		request := &diskv1.DeleteDiskRequest{RequestId: uuid.NewString(), DiskId: id}
		deletion, err := client.disks.DeleteDisk(ctx, request)
		if err != nil {
			return err
		}
		if err := watch(ctx, client.diskOperations, deletion.GetOperationId()); err != nil {
			return err
		}
	}
	fmt.Printf("deleted %s with its disks\n", instanceID)
	return nil
}
