// Members of groups in Go: `program franz-go|sarama BOOTSTRAP TOPIC GROUP`; see tests/scenarios/group.rs for what members print.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
)

func main() {
	members := map[string]func(ctx context.Context, bootstrap, topic, group string) error{"franz-go": franz, "sarama": saramaMember}
	if len(os.Args) != 5 || members[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: %s franz-go|sarama BOOTSTRAP TOPIC GROUP\n", os.Args[0])
		os.Exit(2)
	}
	// The end of the input asks the member to leave.
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	if err := members[os.Args[1]](ctx, os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var output sync.Mutex

func printAssigned(partitions []int32) {
	sort.Slice(partitions, func(i, j int) bool { return partitions[i] < partitions[j] })
	var words []string
	for _, partition := range partitions {
		words = append(words, fmt.Sprint(partition))
	}
	if len(words) == 0 {
		words = []string{"-"}
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println("assigned", strings.Join(words, ","))
}

func printRecord(partition int32, offset int64, key, value []byte) {
	if key == nil {
		key = []byte("-")
	}
	output.Lock()
	defer output.Unlock()
	fmt.Printf("record %d %d %s %s\n", partition, offset, key, value)
}

func printCommitted() {
	output.Lock()
	defer output.Unlock()
	fmt.Println("committed")
}
