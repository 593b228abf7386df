/* Rust's standard library takes its random bytes from ProcessPrng of bcryptprimitives.dll, which
 * Wine 8 does not have. This library forwards it to the older system function of the same use.
 * Built and placed into the test prefix by `cargo xtask targets setup`; it is never shipped. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length); /* RtlGenRandom, advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    while (length > 0) {
        ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
        if (!SystemFunction036(data, part))
            return FALSE;
        data += part;
        length -= part;
    }
    return TRUE;
}
