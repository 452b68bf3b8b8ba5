package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A member by franz-go.
func franz(ctx context.Context, bootstrap, topic, group string) error {
	owned := map[int32]bool{}
	print := func() {
		var partitions []int32
		for partition := range owned {
			partitions = append(partitions, partition)
		}
		printAssigned(partitions)
	}
	gone := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
		for _, partition := range lost[topic] {
			delete(owned, partition)
		}
		print()
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		// What was polled is committed before a rebalance takes partitions away.
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			for _, partition := range added[topic] {
				owned[partition] = true
			}
			print()
		}),
		kgo.OnPartitionsRevoked(gone),
		kgo.OnPartitionsLost(gone),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 50)
		fetches.EachRecord(func(record *kgo.Record) {
			printRecord(record.Partition, record.Offset, record.Key, record.Value)
		})
		if fetches.NumRecords() > 0 {
			if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
				return err
			}
			printCommitted()
		}
		client.AllowRebalance()
	}
	return nil
}
