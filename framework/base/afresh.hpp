// A process that begins once more in its own place, with the same arguments: what it found out lies in files, and what its libraries keep of
// finding it out is gone.
//
//   throw StartAfresh{};                            // from wherever that is known; destructors put everything in order
//   if (!began_afresh()) begin_afresh(arguments);   // at the end of main: returns only where the system refuses
#pragma once

#include <string_view>

namespace sluice {

struct StartAfresh {};

// Whether this process did; it does so once.
[[nodiscard]] bool began_afresh();
// Returns where that cannot be, and the process goes on; from then on began_afresh() says true.
void begin_afresh(char** arguments);

// Whether a line that is to be shown was shown before this process began afresh, be it with other figures. Each is left out once; those that are shown are
// kept until `speaks_for_itself`.
[[nodiscard]] bool was_said(std::string_view line);
// What is said from here on, the other one did not come to.
void speaks_for_itself();

}  // namespace sluice
