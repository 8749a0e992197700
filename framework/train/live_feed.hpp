// Ties a feed to the housekeeping for as long as both live: a signal stops it, the live line and the watchdog look at it.
#pragma once

#include "framework/flow/feed.hpp"
#include "framework/report/reporter.hpp"
#include "framework/train/housekeeping.hpp"
#include "framework/train/session.hpp"

namespace sluice {

class LiveFeed {
 public:
  LiveFeed(Feed& feed, const Session& session, Housekeeping& housekeeping, Reporter& reporter) : housekeeping_(housekeeping), reporter_(reporter) {
    reporter_.set_status([&feed, &session] { return LiveStatus{feed.status(), session.accounts(false)}; });
    // Samples that get finished are progress, although the trainer waits.
    housekeeping_.watch(
        [&feed] {
          const auto status = feed.status();
          return status.finished + status.failed;
        },
        [&feed] { return feed.status().waiting_for; });
    housekeeping_.on_stop([&feed] { feed.stop(); });
  }
  ~LiveFeed() {
    housekeeping_.on_stop({});
    housekeeping_.watch({}, {});
    reporter_.set_status({});
  }
  LiveFeed(const LiveFeed&) = delete;
  LiveFeed& operator=(const LiveFeed&) = delete;

 private:
  Housekeeping& housekeeping_;
  Reporter& reporter_;
};

}  // namespace sluice
