package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

const operatorKeyHelp = "name the key file of an operator of the region, such as operators/eu.key"

func addOperatorFlags(c *cobra.Command) {
	addNodeFlag(c)
	c.Flags().String("operator-key", "", "key file of an operator of the region")
}

// operate signs an action with the operator key that the command line names, submits
// it, and gives its receipt. A refusal is an error with the reason.
func operate(ctx context.Context, cmd *cobra.Command, c *client.Client, action string, data map[string]any) (*client.Receipt, error) {
	return operateBy(ctx, cmd, c, action, data, func(ctx context.Context, env *pci.Envelope) (*client.Receipt, error) {
		return c.Submit(ctx, env.Canonical())
	})
}

// operateBy is operate for a proof that is submitted in a way of its own.
func operateBy(ctx context.Context, cmd *cobra.Command, c *client.Client, action string, data map[string]any,
	submit func(context.Context, *pci.Envelope) (*client.Receipt, error)) (*client.Receipt, error) {
	key, err := loadKey(cmd, "operator-key", operatorKeyHelp)
	if err != nil {
		return nil, err
	}
	signer := client.Signer{Key: key, AgentID: "operator-" + federation.Key(key.Public()).String()[:16]}
	return actBy(ctx, cmd, c, signer, action, data, submit)
}

// act signs an action that builds on no session's head and submits it, as operate does for an operator.
func act(cmd *cobra.Command, c *client.Client, signer client.Signer, action string, data map[string]any) (*client.Receipt, error) {
	return actBy(cmd.Context(), cmd, c, signer, action, data, func(ctx context.Context, env *pci.Envelope) (*client.Receipt, error) {
		return c.Submit(ctx, env.Canonical())
	})
}

func actBy(ctx context.Context, cmd *cobra.Command, c *client.Client, signer client.Signer, action string, data map[string]any,
	submit func(context.Context, *pci.Envelope) (*client.Receipt, error)) (*client.Receipt, error) {
	value, err := pci.FromGo(data)
	if err != nil {
		return nil, &usageError{err}
	}
	empty := ""
	env, err := c.Complete(ctx, &client.Payload{Action: action, Data: value, StateHash: &empty}, signer)
	if err != nil {
		return nil, explained(cmd, err)
	}
	r, err := submit(ctx, env)
	if err != nil {
		if _, ok := errors.AsType[*pci.Reject](err); ok {
			return nil, fmt.Errorf("%s was %w: %w", action, errRefused, err)
		}
		return nil, explained(cmd, err)
	}
	if err := r.Err(); err != nil {
		return r, fmt.Errorf("%s was %w: %w", action, errRefused, err)
	}
	return r, nil
}

// done prints what an operator's action came to.
func done(cmd *cobra.Command, r *client.Receipt, format string, args ...any) error {
	return show(cmd, r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, format+", entry %d of region %s\n", append(args, *orZero(r.Index), r.Region)...)
		return err
	})
}

func orZero(n *int64) *int64 {
	if n == nil {
		return new(int64)
	}
	return n
}
