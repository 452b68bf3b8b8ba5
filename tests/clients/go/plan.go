package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Plan is what a client program is told to do.
type Plan struct {
	Bootstrap    string
	Partitions   int
	Half         int
	Workload     string
	Out          string
	MissingTopic string `json:"missing_topic"`
	LargeBytes   int    `json:"large_bytes"`
	Topics       []Topic
	records      []Record
}

// Topic is a topic to create, write and read back.
type Topic struct {
	Name       string
	Codec      string
	Idempotent bool
}

// Record is one line of the workload: timestamp in milliseconds, key, value (nil for null) and headers.
type Record struct {
	timestamp int64
	key       []byte
	value     []byte
	headers   []Header
}

// Header is a header of a record.
type Header struct {
	name  string
	value []byte
}

func loadPlan(path string) (*Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	plan := &Plan{}
	if err := json.Unmarshal(text, plan); err != nil {
		return nil, err
	}
	file, err := os.Open(plan.Workload)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		record, err := parse(lines.Text())
		if err != nil {
			return nil, err
		}
		plan.records = append(plan.records, record)
	}
	return plan, lines.Err()
}

// Both halves of the records: between them the broker restarts.
func (plan *Plan) halves() [2][]Record {
	return [2][]Record{plan.records[:plan.Half], plan.records[plan.Half:]}
}

func (plan *Plan) names() []string {
	var names []string
	for _, topic := range plan.Topics {
		names = append(names, topic.Name)
	}
	return names
}

// Asks until every topic has its partitions: Kafka's broker learns of a creation a moment after its controller.
func (plan *Plan) waitForTopics(partitions func(topic string) (int, error)) error {
	for _, topic := range plan.Topics {
		for attempt := 0; ; attempt++ {
			found, err := partitions(topic.Name)
			if err == nil && found == plan.Partitions {
				break
			}
			if attempt == 100 {
				return fmt.Errorf("%s is listed with %d partitions: %v", topic.Name, found, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}

// Says that all is acknowledged so far and waits for the word to go on.
func pause() error {
	fmt.Println("PAUSED")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

func parse(line string) (record Record, err error) {
	columns := strings.Split(line, "\t")
	if len(columns) != 4 {
		return record, fmt.Errorf("not a record: %q", line)
	}
	if record.timestamp, err = strconv.ParseInt(columns[0], 10, 64); err != nil {
		return record, err
	}
	if record.key, err = unhex(columns[1]); err != nil {
		return record, err
	}
	if record.value, err = unhex(columns[2]); err != nil {
		return record, err
	}
	if columns[3] == "-" {
		return record, nil
	}
	for _, text := range strings.Split(columns[3], ";") {
		name, value, _ := strings.Cut(text, ":")
		bytes, err := unhex(value)
		if err != nil {
			return record, err
		}
		record.headers = append(record.headers, Header{name, bytes})
	}
	return record, nil
}

func unhex(text string) ([]byte, error) {
	if text == "-" {
		return nil, nil
	}
	return hex.DecodeString(text)
}

func tohex(bytes []byte) string {
	if bytes == nil {
		return "-"
	}
	return hex.EncodeToString(bytes)
}

// readBack is the file that takes what was read back from one topic.
type readBack struct {
	file *os.File
	out  *bufio.Writer
}

func newReadBack(plan *Plan, topic string) (*readBack, error) {
	file, err := os.Create(plan.Out + "/" + topic + ".tsv")
	if err != nil {
		return nil, err
	}
	return &readBack{file, bufio.NewWriter(file)}, nil
}

func (back *readBack) add(partition int32, offset int64, record Record) {
	var headers []string
	for _, header := range record.headers {
		headers = append(headers, header.name+":"+tohex(header.value))
	}
	if headers == nil {
		headers = []string{"-"}
	}
	fmt.Fprintf(back.out, "%d\t%d\t%d\t%s\t%s\t%s\n", partition, offset, record.timestamp,
		tohex(record.key), tohex(record.value), strings.Join(headers, ";"))
}

func (back *readBack) close() error {
	if err := back.out.Flush(); err != nil {
		return err
	}
	return back.file.Close()
}
