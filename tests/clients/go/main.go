// Go clients under test: `clients CLIENT VERB PLAN`.
package main

import (
	"fmt"
	"os"
)

// The four things that every client under test can do; see harness/src/client.rs.
type client interface {
	create(plan *Plan) error
	write(plan *Plan) error
	read(plan *Plan) error
	refuse(plan *Plan) error
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: %s franz-go|sarama create|write|read|refuse PLAN", args[0])
	}
	clients := map[string]client{"franz-go": franz{}, "sarama": saramaClient{}}
	chosen, known := clients[args[1]]
	if !known {
		return fmt.Errorf("unknown client %s", args[1])
	}
	plan, err := loadPlan(args[3])
	if err != nil {
		return err
	}
	switch args[2] {
	case "create":
		return chosen.create(plan)
	case "write":
		return chosen.write(plan)
	case "read":
		return chosen.read(plan)
	case "refuse":
		return chosen.refuse(plan)
	default:
		return fmt.Errorf("unknown verb %s", args[2])
	}
}
