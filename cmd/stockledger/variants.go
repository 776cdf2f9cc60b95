package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

type variants struct {
	IDs          []string `arg:"" optional:"" name:"variant" help:"The variants."`
	Location     []string `placeholder:"ID" help:"Only what is at these locations; all of them when left out."`
	SalesChannel string   `placeholder:"ID" help:"Only what is at the locations that serve this sales channel."`
	After        uint64   `placeholder:"POSITION" help:"Wait until the answer contains that position."`
	JSON         bool     `help:"Answer in JSON."`
	watching
}

// Help implements kong.HelpProvider.
func (variants) Help() string {
	return `Of each item of a variant, what is available is divided by what one variant takes; the item that gives out first decides.

Examples:

    stockledger get variants tea-set-red
    stockledger get variants tea-set-red tea-set-blue --location paris,berlin --json`
}

// Run shows the availability of variants.
func (v *variants) Run(ctx context.Context, s streams, at *get) error {
	if len(v.IDs) == 0 {
		return errors.New("which variants? stockledger get links has those that have items")
	}
	params := object{"variant_ids": v.IDs}
	if len(v.Location) > 0 {
		params["location_ids"] = v.Location
	}
	if v.SalesChannel != "" {
		params["sales_channel_id"] = v.SalesChannel
	}
	conn, err := at.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return v.Watch.show(ctx, s, conn, watched{after: v.After, settled: true, show: func(ctx context.Context, w io.Writer, after uint64) error {
		if after > 0 {
			params["after"] = after
		}
		document, err := ask[json.RawMessage](ctx, conn, "variant-availability", params)
		if err != nil {
			return err
		}
		if v.JSON {
			return v.Watch.printJSON(w, document)
		}
		return printVariants(w, document)
	}})
}

func printVariants(w io.Writer, document json.RawMessage) error {
	var answer struct {
		Variants []struct {
			ID           json.RawMessage `json:"variant_id"`
			Availability json.RawMessage `json:"availability"`
			Items        []row           `json:"items"`
		} `json:"variants"`
	}
	if err := json.Unmarshal(document, &answer); err != nil {
		return fmt.Errorf("answer to variant-availability: %w", err)
	}
	var rows []row
	for _, v := range answer.Variants {
		r := row{"variant_id": v.ID, "availability": v.Availability}
		if len(v.Items) == 0 {
			r["availability"] = quoted("no items")
			rows = append(rows, r)
		}
		for i, item := range v.Items {
			if i == 0 {
				item["variant_id"], item["availability"] = v.ID, v.Availability
			}
			rows = append(rows, item)
		}
	}
	printTable(w, []column{
		col("VARIANT", "variant_id"), num("AVAILABLE", "availability"),
		col("ITEM", "inventory_item_id"), num("TAKES", "required_quantity"), num("ITEM HAS", "available_quantity"),
	}, rows)
	return nil
}
