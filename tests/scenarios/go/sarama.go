package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

// A member by sarama.
func saramaMember(ctx context.Context, bootstrap, topic, group string) error {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	// What is marked is committed so often, and at the end of each generation.
	config.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	client, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		return err
	}
	defer client.Close()
	for ctx.Err() == nil {
		// Each call is one generation.
		if err := client.Consume(ctx, []string{topic}, &handler{topic}); err != nil {
			return err
		}
	}
	return nil
}

type handler struct{ topic string }

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	printAssigned(session.Claims()[h.topic])
	return nil
}

func (h *handler) Cleanup(sarama.ConsumerGroupSession) error {
	printAssigned(nil)
	return nil
}

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			printRecord(message.Partition, message.Offset, message.Key, message.Value)
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}
