// The code that stands between a rewritten libc and the dispatcher. call_stubs.cc puts
// a stub together from these pieces for every call site:
//
//     what the jump to the stub has displaced
//     a gate, which skips the next line if the dispatcher is to be asked
//     jmp  the untouched syscall instruction
//     lea  behind the syscall instruction(%rip), %rcx
//     jmp  rumphijack_enter
//
// Up to there only what the kernel itself clobbers is touched: rcx, r11 and the flags.

// Where the gates jump to: behind the jmp, which has five bytes.
#define ASK(end) end + 5

// fd_cache.h, and of <sys/socket.h> and <fcntl.h>; call_stubs.cc compares them.
#define SLOTS 65536
#define KIND_MASK 15
#define HOST 1
#define WRITE_SHUT 3
#define CONTROL_SIZE 40
#define STREAM_FLAGS 0x2020
#define FIRST_PAGE 4096
#define F_DUPFD_CLOEXEC 1030
#define SOCKET_REQUESTS 0x89
#define O_CLOEXEC 0x80000
// call_stubs.cc
#define DISPATCHED_NUMBERS 512
#define RETURN_ADDRESS 120
// call_stubs.h
#define STUB_SIZE 128
#define MAX_STUBS 256

// What fd_cache knows of the descriptor in edi, into ecx.
.macro LOOK_UP end
        cmp     $SLOTS, %edi
        jae     ASK(\end)
        mov     %edi, %ecx
        movabs  $_ZN4rump6hijack8fd_cacheE, %r11
        movzbl  (%r11,%rcx), %ecx
        and     $KIND_MASK, %ecx
.endm

.macro PIECE name
        .globl  \name, \name\()_end
        .hidden \name, \name\()_end
\name:
.endm

// Not run where they lie: their addresses are filled in by the dynamic linker.
        .section .data.rel.ro.rumphijack, "aw", @progbits

PIECE rumphijack_gate_Always
        jmp     ASK(rumphijack_gate_Always_end)
rumphijack_gate_Always_end:

PIECE rumphijack_gate_Host
        LOOK_UP rumphijack_gate_Host_end
        cmp     $HOST, %ecx
        jne     ASK(rumphijack_gate_Host_end)
rumphijack_gate_Host_end:

PIECE rumphijack_gate_Close
        LOOK_UP rumphijack_gate_Close_end
        cmp     $HOST, %ecx
        je      rumphijack_gate_Close_end
        test    %ecx, %ecx
        jne     ASK(rumphijack_gate_Close_end)
        movabs  $rumphijack_own_fd, %r11
        mov     (%r11), %r11
        cmpl    $0, (%r11)
        jge     ASK(rumphijack_gate_Close_end)
        movabs  $rumphijack_spare_fd, %r11
        mov     (%r11), %r11
        cmpl    $0, (%r11)
        jge     ASK(rumphijack_gate_Close_end)
rumphijack_gate_Close_end:

PIECE rumphijack_gate_Bytes
        LOOK_UP rumphijack_gate_Bytes_end
        dec     %ecx
        cmp     $(WRITE_SHUT - HOST), %ecx
        ja      ASK(rumphijack_gate_Bytes_end)
rumphijack_gate_Bytes_end:

PIECE rumphijack_gate_Named
        LOOK_UP rumphijack_gate_Named_end
        cmp     $HOST, %ecx
        je      rumphijack_gate_Named_end
        dec     %ecx
        cmp     $(WRITE_SHUT - HOST), %ecx
        ja      ASK(rumphijack_gate_Named_end)
        test    %r8, %r8
        jne     ASK(rumphijack_gate_Named_end)
        test    $STREAM_FLAGS, %r10d
        jne     ASK(rumphijack_gate_Named_end)
rumphijack_gate_Named_end:

PIECE rumphijack_gate_Plain
        cmp     $FIRST_PAGE, %rsi               // signed: nor is what is the kernel's a pointer
        jl      ASK(rumphijack_gate_Plain_end)
        cmpq    $0, CONTROL_SIZE(%rsi)
        jne     ASK(rumphijack_gate_Plain_end)
        LOOK_UP rumphijack_gate_Plain_end
        cmp     $HOST, %ecx
        jne     ASK(rumphijack_gate_Plain_end)
rumphijack_gate_Plain_end:

// 0x89 is the type of SIOC* requests: of interfaces host sockets may be asked, too.
PIECE rumphijack_gate_Ioctl
        mov     %esi, %ecx
        shr     $8, %ecx
        cmp     $SOCKET_REQUESTS, %ecx
        je      ASK(rumphijack_gate_Ioctl_end)
        LOOK_UP rumphijack_gate_Ioctl_end
        cmp     $HOST, %ecx
        jne     ASK(rumphijack_gate_Ioctl_end)
rumphijack_gate_Ioctl_end:

PIECE rumphijack_gate_NoDup
        test    %esi, %esi
        je      ASK(rumphijack_gate_NoDup_end)
        cmp     $F_DUPFD_CLOEXEC, %esi
        je      ASK(rumphijack_gate_NoDup_end)
        movabs  $rumphijack_own_fd, %r11
        mov     (%r11), %r11
        cmp     (%r11), %edi
        je      ASK(rumphijack_gate_NoDup_end)
        movabs  $rumphijack_spare_fd, %r11
        mov     (%r11), %r11
        cmp     (%r11), %edi
        je      ASK(rumphijack_gate_NoDup_end)
rumphijack_gate_NoDup_end:

PIECE rumphijack_gate_Reads
        mov     %edx, %ecx
        and     $~O_CLOEXEC, %ecx
        je      ASK(rumphijack_gate_Reads_end)
rumphijack_gate_Reads_end:

// For syscall(3): which call it is, is in rax.
PIECE rumphijack_gate_Number
        cmp     $DISPATCHED_NUMBERS, %rax
        jae     rumphijack_gate_Number_end
        movabs  $rumphijack_dispatched, %r11
        cmpb    $0, (%r11,%rax)
        jne     ASK(rumphijack_gate_Number_end)
rumphijack_gate_Number_end:

// Comes from a stub, with the address behind the syscall instruction in rcx. The frame looks as if
// that instruction were a call: a thread that is cancelled in the dispatcher is unwound into libc.
        .text
        .globl  rumphijack_enter
        .hidden rumphijack_enter
        .type   rumphijack_enter, @function
rumphijack_enter:
        .cfi_startproc
        .cfi_def_cfa %rsp, 0
        .cfi_register %rip, %rcx
        lea     -128(%rsp), %rsp                // the red zone of whoever called
        .cfi_def_cfa_offset 128
        push    %rcx
        .cfi_def_cfa_offset 136
        .cfi_offset %rip, -136
        push    %rbp
        .cfi_def_cfa_offset 144
        .cfi_offset %rbp, -144
        mov     %rsp, %rbp
        .cfi_def_cfa_register %rbp
        and     $-16, %rsp
        sub     $8, %rsp
        push    %rax                            // struct StubCall, from its end
        push    %r9
        push    %r8
        push    %r10
        push    %rdx
        push    %rsi
        push    %rdi
        mov     %rsp, %rdi
        cld
        call    rumphijack_dispatch
        mov     %rax, %r11
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        pop     %rax                            // the number again, or the result
        mov     %rbp, %rsp
        .cfi_def_cfa_register %rsp
        pop     %rbp
        .cfi_def_cfa_offset 136
        .cfi_restore %rbp
        pop     %rcx
        .cfi_def_cfa_offset 128
        .cfi_register %rip, %rcx
        lea     128(%rsp), %rsp
        .cfi_def_cfa_offset 0
        sub     %r11, %rcx                      // by the size of the instruction to be made yet
        jmp     *%rcx
        .cfi_endproc
        .size   rumphijack_enter, . - rumphijack_enter

// Whoever is interrupted in a stub is unwound as if libc were still at the system call: the frame is
// libc's, and the address to go on with is in the stub's last eight bytes.
        .section .text.rumphijack_stubs, "ax", @progbits
        .globl  rumphijack_stubs
        .hidden rumphijack_stubs
        .p2align 12
rumphijack_stubs:
        .cfi_startproc
        .cfi_def_cfa %rsp, 0
        // DW_CFA_expression of rip (16), 7 bytes: DW_OP_breg16 0, DW_OP_const1s -STUB_SIZE,
        // DW_OP_and, DW_OP_plus_uconst RETURN_ADDRESS
        .cfi_escape 0x10, 16, 7, 0x80, 0, 0x09, -STUB_SIZE, 0x1a, 0x23, RETURN_ADDRESS
        .zero   MAX_STUBS * STUB_SIZE
        .cfi_endproc

        .section .note.GNU-stack, "", @progbits
