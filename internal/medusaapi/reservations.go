package medusaapi

import (
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stockledger/stockledger/commands"
	"github.com/stockledger/stockledger/internal/fault"
	"github.com/stockledger/stockledger/internal/httpapi"
	"github.com/stockledger/stockledger/projections"
)

var (
	newReservationShape = shape{fields: []field{
		{name: "line_item_id", want: aText, nullable: true},
		{name: "location_id", want: aText, required: true},
		{name: "inventory_item_id", want: aText, required: true},
		{name: "quantity", want: aNumber, required: true},
		{name: "description", want: aText, nullable: true},
		{name: "metadata", want: aRecord, nullable: true},
	}}
	reservationShape = shape{fields: []field{
		{name: "location_id", want: aText},
		{name: "quantity", want: aNumber},
		{name: "description", want: aText, nullable: true},
		{name: "metadata", want: aRecord, nullable: true},
	}}

	reservationListParams = listParams(params{
		searchText,
		texts("location_id", "where"),
		texts("inventory_item_id", "of what"),
		texts("line_item_id", "for what"),
		texts("created_by", "by whom"),
		compared("description", "of the reservation"),
		numbers("quantity", "what is held"),
		moments("created_at", "when it was made"),
		moments("updated_at", "when it last changed"),
		moments("deleted_at", "when it was let go of; with_deleted shows those"),
	})
)

type (
	reservationAnswer struct {
		Reservation Reservation `json:"reservation"`
	}
	reservationsAnswer struct {
		Reservations []Reservation `json:"reservations"`
		Count        int           `json:"count"`
		Offset       int           `json:"offset"`
		Limit        int           `json:"limit"`
	}
)

func (a *api) reservationRoutes() []httpapi.Route {
	const path, one = "/admin/reservations", "/admin/reservations/{id}"
	return []httpapi.Route{
		a.ask(path, "admin-list-reservations", "reservations with their items, by filters", reservationListParams, reservationsAnswer{}, listReservations),
		a.write(http.MethodPost, path, "admin-create-reservation", "set stock aside", selectParams, newReservationBody{}, reservationAnswer{}, createReservation),
		a.ask(one, "admin-retrieve-reservation", "a reservation", selectParams, reservationAnswer{}, retrieveReservation),
		a.write(http.MethodPost, one, "admin-update-reservation", "change or move a reservation", selectParams,
			reservationBody{}, reservationAnswer{}, updateReservation),
		a.write(http.MethodDelete, one, "admin-delete-reservation", "let go of a reservation", nil, nil, deletedAnswer{}, deleteReservation),
	}
}

func listReservations(c *call) (any, error) {
	to, err := c.query(reservationListParams, 20)
	if err != nil {
		return nil, err
	}
	s, err := reservationEntity.chosen(to.fields, reservationDefaults)
	if err != nil {
		return nil, err
	}
	to.Relations = s.names()
	page, err := list(c, to, c.models.ListReservations)
	if err != nil {
		return nil, err
	}
	withItems, err := c.reservations(page.rows, s)
	if err != nil {
		return nil, err
	}
	picked, err := each(s, withItems)
	return pageAnswer{"reservations", picked, page.paging}, err
}

func (c *call) chosenReservation() (*selection, error) {
	to, err := c.query(selectParams, 0)
	if err != nil {
		return nil, err
	}
	return reservationEntity.chosen(to.fields, reservationDefaults)
}

func retrieveReservation(c *call) (any, error) {
	s, err := c.chosenReservation()
	if err != nil {
		return nil, err
	}
	reservation, found, err := c.readReservation(c.id("id"), s, false)
	if err == nil && !found {
		err = notFound("Reservation with id: %s was not found", c.id("id"))
	}
	return keyed{"reservation": reservation}, err
}

func (c *call) answerReservation(result []byte, s *selection) (any, error) {
	made, err := rows[commands.ReservationRow](result)
	if err != nil {
		return nil, err
	}
	id := made[0].ID
	reservation, found, err := c.readReservation(id, s, false)
	if err == nil && !found { // let go of since
		reservation, found, err = c.readReservation(id, s, true)
	}
	if err == nil && !found {
		err = fmt.Errorf("reservation %s was changed and cannot be read", id)
	}
	return keyed{"reservation": reservation}, err
}

func (c *call) readReservation(id string, s *selection, deleted bool) (reservation jsontext.Value, found bool, err error) {
	page, err := c.models.ListReservations(c.ctx(), projections.List{
		Filter: map[string]any{"id": id}, Relations: s.names(), Take: new(1), NoCount: true, WithDeleted: deleted,
	})
	if err != nil || len(page.Rows) == 0 {
		return nil, false, err
	}
	withItems, err := c.reservations(page.Rows, s)
	if err != nil {
		return nil, false, err
	}
	reservation, err = s.of(withItems[0])
	return reservation, true, err
}

// reservations are rows with their items, and the levels of those if they were
// asked for.
func (c *call) reservations(rows []projections.ReservationRow, s *selection) ([]Reservation, error) {
	all := mapped(rows, reservationWithAll)
	if !s.below("inventory_item").wants("location_levels") {
		return all, nil
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ItemID)
	}
	items, err := c.itemsWithLevels(ids)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if it, live := items[all[i].ItemID]; live {
			all[i].Item = &it
		}
	}
	return all, nil
}

func createReservation(c *call) (any, error) {
	s, err := c.chosenReservation()
	if err != nil {
		return nil, err
	}
	var reservation commands.NewReservation
	if err := c.body(newReservationShape, &reservation); err != nil {
		return nil, err
	}
	answer, err := c.do(commands.CreateReservations{Reservations: []commands.NewReservation{reservation}}, func(result []byte) (any, error) {
		return c.answerReservation(result, s)
	})
	return answer, notStocked(err, reservation.InventoryItemID, reservation.LocationID)
}

func updateReservation(c *call) (any, error) {
	s, err := c.chosenReservation()
	if err != nil {
		return nil, err
	}
	var update commands.ReservationUpdate
	if err := c.body(reservationShape, &update); err != nil {
		return nil, err
	}
	update.ID = c.id("id")
	answer, err := c.do(commands.UpdateReservations{Updates: []commands.ReservationUpdate{update}}, func(result []byte) (any, error) {
		return c.answerReservation(result, s)
	})
	if fault.Code(err) == "not_found" && fault.Of(err).Details["reservation_id"] != nil {
		err = invalid("Reservation item with id %s not found", update.ID)
	}
	return answer, err
}

func deleteReservation(c *call) (any, error) {
	if _, err := c.query(nil, 0); err != nil {
		return nil, err
	}
	id := c.id("id")
	return c.delete(deletedAnswer{id, "reservation", true}, commands.DeleteReservations{IDs: []string{id}, IgnoreUnknown: true})
}
