package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// sarama as a client under test.
type saramaClient struct{}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	// Long enough for a restart of the broker.
	config.Producer.Retry.Max = 300
	config.Metadata.Retry.Max = 300
	return config
}

func (saramaClient) create(plan *Plan) error {
	admin, err := sarama.NewClusterAdmin([]string{plan.Bootstrap}, saramaConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: int32(plan.Partitions), ReplicationFactor: 1}
	for _, topic := range plan.Topics {
		if err := admin.CreateTopic(topic.Name, detail, false); err != nil {
			return fmt.Errorf("%s: %w", topic.Name, err)
		}
	}
	fmt.Printf("existing=%s\n", saramaError(admin.CreateTopic(plan.Topics[0].Name, detail, false)))
	return plan.waitForTopics(func(topic string) (int, error) {
		listed, err := admin.ListTopics()
		return int(listed[topic].NumPartitions), err
	})
}

func (saramaClient) write(plan *Plan) error {
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	var producers []sarama.SyncProducer
	for _, topic := range plan.Topics {
		config := saramaConfig()
		config.Producer.Compression = codecs[topic.Codec]
		// Without idempotence more than one request in flight could change the order; with it sarama allows one only.
		config.Net.MaxOpenRequests = 1
		config.Producer.RequiredAcks = sarama.WaitForLocal
		if topic.Idempotent {
			config.Producer.Idempotent = true
			config.Producer.RequiredAcks = sarama.WaitForAll
		}
		producer, err := sarama.NewSyncProducer([]string{plan.Bootstrap}, config)
		if err != nil {
			return err
		}
		defer producer.Close()
		producers = append(producers, producer)
	}
	for half, records := range plan.halves() {
		for index, producer := range producers {
			var messages []*sarama.ProducerMessage
			for _, record := range records {
				message := &sarama.ProducerMessage{
					Topic: plan.Topics[index].Name, Key: sarama.ByteEncoder(record.key),
					Timestamp: time.UnixMilli(record.timestamp),
				}
				// A nil ByteEncoder in the interface would be an empty value and not a null one.
				if record.value != nil {
					message.Value = sarama.ByteEncoder(record.value)
				}
				for _, header := range record.headers {
					message.Headers = append(message.Headers,
						sarama.RecordHeader{Key: []byte(header.name), Value: header.value})
				}
				messages = append(messages, message)
			}
			if err := producer.SendMessages(messages); err != nil {
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

func (saramaClient) read(plan *Plan) error {
	client, err := sarama.NewClient([]string{plan.Bootstrap}, saramaConfig())
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	for _, topic := range plan.Topics {
		back, err := newReadBack(plan, topic.Name)
		if err != nil {
			return err
		}
		for partition := range int32(plan.Partitions) {
			end, err := client.GetOffset(topic.Name, partition, sarama.OffsetNewest)
			if err != nil {
				return err
			}
			messages, err := consumer.ConsumePartition(topic.Name, partition, sarama.OffsetOldest)
			if err != nil {
				return err
			}
			for position := int64(0); position < end; {
				message := <-messages.Messages()
				var headers []Header
				for _, header := range message.Headers {
					headers = append(headers, Header{string(header.Key), header.Value})
				}
				back.add(message.Partition, message.Offset,
					Record{message.Timestamp.UnixMilli(), message.Key, message.Value, headers})
				position = message.Offset + 1
			}
			if err := messages.Close(); err != nil {
				return err
			}
		}
		if err := back.close(); err != nil {
			return err
		}
	}
	return nil
}

func (saramaClient) refuse(plan *Plan) error {
	config := saramaConfig()
	config.Producer.Retry.Max = 1
	config.Metadata.Retry.Max = 1
	config.Producer.MaxMessageBytes = 8 << 20
	producer, err := sarama.NewSyncProducer([]string{plan.Bootstrap}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{
		Topic: plan.MissingTopic, Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder("v"),
	})
	fmt.Printf("missing=%s\n", saramaError(err))
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{
		Topic: plan.Topics[0].Name, Key: sarama.StringEncoder("k"), Value: sarama.ByteEncoder(make([]byte, plan.LargeBytes)),
	})
	fmt.Printf("large=%s\n", saramaError(err))
	return nil
}

// The error code of the protocol, since sarama gives its errors sentences and no names.
func saramaError(err error) string {
	var code sarama.KError
	var topic *sarama.TopicError
	switch {
	case errors.As(err, &topic):
		return fmt.Sprintf("%d", int16(topic.Err))
	case errors.As(err, &code):
		return fmt.Sprintf("%d", int16(code))
	default:
		return fmt.Sprint(err)
	}
}
