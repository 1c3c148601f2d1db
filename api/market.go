package api

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/bizra/bizra/client"
)

// numberMax is the greatest number that a query or a path may name.
const numberMax = 1 << 53

func (s *Server) market(r *http.Request) (*reply, error) {
	q, err := params(r, consistencyParam)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		m, err := v.Market()
		return m, noMarket(err)
	})
}

// noMarket says more than that a name is not known.
func noMarket(err error) error {
	if errors.Is(err, ErrNotFound) {
		return failf(http.StatusNotFound, "This region has no market: its federation document gives it none.")
	}
	return err
}

func (s *Server) holder(r *http.Request) (*reply, error) {
	return s.one(r, func(v View, owner string) (any, error) { return v.Holder(owner) })
}

func (s *Server) holders(r *http.Request) (*reply, error) {
	q, after, limit, err := listParams(r)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) {
		list, err := v.Holders(after, limit+1)
		page := client.Holders{Holders: append([]client.Holder{}, list...)}
		if len(list) > limit {
			page.Holders = page.Holders[:limit]
			page.Next = page.Holders[limit-1].Owner
		}
		return page, err
	})
}

func (s *Server) licence(r *http.Request) (*reply, error) {
	return s.one(r, func(v View, id string) (any, error) {
		number, err := strconv.ParseInt(id, 10, 64)
		if err != nil || number < 0 || strconv.FormatInt(number, 10) != id {
			return nil, failf(http.StatusBadRequest, "%q names no licence: give its number.", clip(id, 40))
		}
		return v.Licence(number)
	})
}

func (s *Server) licences(r *http.Request) (*reply, error) {
	return s.byNumber(r, "from", 0, func(v View, from int64, limit int) (any, error) {
		list, err := v.Licences(from, limit+1)
		page := client.Licences{Licences: append([]client.Licence{}, list...)}
		if len(list) > limit {
			next := list[limit].Number
			page.Licences, page.Next = page.Licences[:limit], &next
		}
		return page, err
	})
}

func (s *Server) epochs(r *http.Request) (*reply, error) {
	return s.byNumber(r, "before", numberMax, func(v View, before int64, limit int) (any, error) {
		list, err := v.Epochs(before, limit+1)
		page := client.Epochs{Epochs: append([]client.Epoch{}, list...)}
		if len(list) > limit {
			next := list[limit-1].Number
			page.Epochs, page.Next = page.Epochs[:limit], &next
		}
		return page, err
	})
}

// byNumber reads one page of a list that goes by numbers.
func (s *Server) byNumber(r *http.Request, name string, otherwise int64, read func(v View, at int64, limit int) (any, error)) (*reply, error) {
	q, err := params(r, name, "limit", consistencyParam)
	if err != nil {
		return nil, err
	}
	at, err := number(q, name, otherwise, 0, numberMax)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(q)
	if err != nil {
		return nil, err
	}
	return s.readView(r, q, func(v View) (any, error) { return read(v, at, limit) })
}
