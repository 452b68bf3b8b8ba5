package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz-go as a client under test.
type franz struct{}

func (franz) create(plan *Plan) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(plan.Bootstrap))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx := context.Background()
	created, err := admin.CreateTopics(ctx, int32(plan.Partitions), 1, nil, plan.names()...)
	if err != nil {
		return err
	}
	for _, topic := range created.Sorted() {
		if topic.Err != nil {
			return fmt.Errorf("%s: %w", topic.Topic, topic.Err)
		}
	}
	_, err = admin.CreateTopic(ctx, int32(plan.Partitions), 1, nil, plan.Topics[0].Name)
	fmt.Printf("existing=%s\n", franzError(err))
	return plan.waitForTopics(func(topic string) (int, error) {
		listed, err := admin.ListTopics(ctx)
		return len(listed[topic].Partitions), err
	})
}

func (franz) write(plan *Plan) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	var clients []*kgo.Client
	for _, topic := range plan.Topics {
		options := []kgo.Opt{
			kgo.SeedBrokers(plan.Bootstrap), kgo.DefaultProduceTopic(topic.Name),
			kgo.ProducerBatchCompression(codecs[topic.Codec]), kgo.ProducerLinger(5 * time.Millisecond),
		}
		if !topic.Idempotent {
			options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()),
				kgo.MaxProduceRequestsInflightPerBroker(1))
		}
		client, err := kgo.NewClient(options...)
		if err != nil {
			return err
		}
		defer client.Close()
		clients = append(clients, client)
	}
	for half, records := range plan.halves() {
		for _, client := range clients {
			promises := kgo.FirstErrPromise{}
			for _, record := range records {
				var headers []kgo.RecordHeader
				for _, header := range record.headers {
					headers = append(headers, kgo.RecordHeader{Key: header.name, Value: header.value})
				}
				client.Produce(context.Background(), &kgo.Record{
					Key: record.key, Value: record.value, Headers: headers, Timestamp: time.UnixMilli(record.timestamp),
				}, promises.Promise())
			}
			if err := promises.Err(); err != nil {
				return err
			}
		}
		if half == 0 {
			if err := pause(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (franz) read(plan *Plan) error {
	for _, topic := range plan.Topics {
		offsets := map[int32]kgo.Offset{}
		for partition := range plan.Partitions {
			offsets[int32(partition)] = kgo.NewOffset().AtStart()
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(plan.Bootstrap),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Name: offsets}))
		if err != nil {
			return err
		}
		ends, err := kadm.NewClient(client).ListEndOffsets(context.Background(), topic.Name)
		if err != nil {
			return err
		}
		remaining := int64(0)
		ends.Each(func(end kadm.ListedOffset) { remaining += end.Offset })
		back, err := newReadBack(plan, topic.Name)
		if err != nil {
			return err
		}
		for remaining > 0 {
			fetches := client.PollFetches(context.Background())
			if err := fetches.Err(); err != nil {
				return err
			}
			fetches.EachRecord(func(record *kgo.Record) {
				var headers []Header
				for _, header := range record.Headers {
					headers = append(headers, Header{header.Key, header.Value})
				}
				back.add(record.Partition, record.Offset,
					Record{record.Timestamp.UnixMilli(), record.Key, record.Value, headers})
				remaining--
			})
		}
		client.Close()
		if err := back.close(); err != nil {
			return err
		}
	}
	return nil
}

func (franz) refuse(plan *Plan) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(plan.Bootstrap), kgo.UnknownTopicRetries(1),
		kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	missing := &kgo.Record{Topic: plan.MissingTopic, Key: []byte("k"), Value: []byte("v")}
	fmt.Printf("missing=%s\n", franzError(client.ProduceSync(context.Background(), missing).FirstErr()))
	large := &kgo.Record{Topic: plan.Topics[0].Name, Key: []byte("k"), Value: make([]byte, plan.LargeBytes)}
	fmt.Printf("large=%s\n", franzError(client.ProduceSync(context.Background(), large).FirstErr()))
	return nil
}

func franzError(err error) string {
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return fmt.Sprint(err)
}
