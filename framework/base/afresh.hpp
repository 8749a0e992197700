// A process that begins once more in its own place, with the same arguments: what it found out lies in files, and what its libraries keep of
// finding it out is gone.
//
//   if (may_begin_afresh()) throw StartAfresh{};   // from wherever that is known; destructors put everything in order
//   begin_afresh(arguments);                       // at the end of main: returns only where the system refuses
#pragma once

#include <string_view>

namespace sluice {

struct StartAfresh {};

// Whether this process did.
[[nodiscard]] bool began_afresh();
// A few times, so that one that finds out nothing new does not begin for ever.
[[nodiscard]] bool may_begin_afresh();
// Returns where that cannot be: the process goes on as one that may not.
void begin_afresh(char** arguments);

// Whether a line that is to be shown was shown before this process began afresh, be it with other figures. Each is left out once; those that are shown are
// kept until `speaks_for_itself`.
[[nodiscard]] bool was_said(std::string_view line);
// What is said from here on, the other one did not come to.
void speaks_for_itself();

}  // namespace sluice
