#include "Standalone/Types.h"
