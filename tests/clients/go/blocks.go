package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	diskv1 "stillpoint.example/client/gen/stillpoint/disk/v1"
)

// A message holds up to 4 MiB in all; 256 KiB is where a larger one gains nothing.
const messageBytes = 256 << 10

// writeBlocks writes content to the beginning of a disk, and returns when all of it is durable.
func writeBlocks(ctx context.Context, blocks diskv1.BlockServiceClient, diskID string, content []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := blocks.WriteBlocks(ctx)
	if err != nil {
		return err
	}
	// Sends ahead while answers come.
	go func() {
		var offset int64
		for data := range slices.Chunk(content, messageBytes) {
			extent := &diskv1.Extent{OffsetBytes: offset, Data: data}
			message := &diskv1.WriteBlocksRequest{DiskId: diskID, Extents: []*diskv1.Extent{extent}}
			// The stream has ended then, and Recv says why.
			if stream.Send(message) != nil {
				return
			}
			offset += int64(len(data))
		}
		_ = stream.CloseSend()
	}()
	var durable int64
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		durable = answer.GetBytesDurable()
	}
	if durable != int64(len(content)) {
		return fmt.Errorf("%d of %d bytes of %s are durable", durable, len(content), diskID)
	}
	return nil
}

// readBlocks reads a disk from its beginning.
func readBlocks(ctx context.Context, blocks diskv1.BlockServiceClient, diskID string, length int) ([]byte, error) {
	stream, err := blocks.ReadBlocks(ctx, &diskv1.ReadBlocksRequest{
		Source:      &diskv1.ReadBlocksRequest_DiskId{DiskId: diskID},
		LengthBytes: int64(length),
	})
	if err != nil {
		return nil, err
	}
	content := make([]byte, length)
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		// A piece without data reads zero, as content does already.
		copy(content[piece.GetOffsetBytes():], piece.GetData())
	}
}
