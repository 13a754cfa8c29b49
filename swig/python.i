/* python.i - the Python module ipcio._core.  What it wraps stands in ipcio.i.
 *
 * The types are SWIG's built-in ones, made safe in %init: no instance dictionary, no subclasses, no objects
 * without a handle.  SWIG makes no METH_FASTCALL functions, so the calls that move messages are attached by
 * hand; they and the generated ones share the functions and the waiting of ipcio.i. */
%module(package="ipcio") _core

%begin %{
/* SWIG modules share their run-time types by this name, but not every module has the same objects. */
#define SWIG_TYPE_TABLE ipcio
/* Since 4.4 SWIG would make heap types, which heed neither tp_basicsize nor tp_flags. */
#define SWIG_NO_HEAPTYPES
%}

%{
#include <unistd.h>

#include "ipcio.h"

/* A Connection, Server or Set. */
typedef struct {
    SwigPyObject swig;
    struct shown_object *shown[IPCIO_WANT_WRITE + 1]; /* what the view of a side shows, while there is one */
    /* The sides (IPCIO_WANT_...) on which a call runs, to refuse a second one: the core sees tries only, and
     * would take it for the repeated first one. */
    int busy;
    int trying; /* of these, the sides where the caller repeats the call */
    PyObject *ended; /* a bytearray that a running serve looks at: 1 stopped, 2 closed */
    PyObject *weak;  /* Python's list of the weak references */
    pid_t owner;
} handle_object;

/* What SWIG's code is called, and how its module's initialization fails: since 4.4 that is a step of its own. */
#if SWIG_VERSION >= 0x040400
#define SwigPyObject_type SwigPyObject_Type
#define FAIL_INIT(module) return -1
#else
#define FAIL_INIT(module) do { Py_DECREF(module); return NULL; } while (0)
#endif

/* Nothing is needed to call back into Python. */
typedef void ipcio_caller;

#define IPCIO_BLOCKING(statement)                                                                              \
    do {                                                                                                       \
        PyThreadState *thread = PyEval_SaveThread();                                                           \
        statement;                                                                                             \
        PyEval_RestoreThread(thread);                                                                          \
    } while (0)

static int check_signals(ipcio_caller *caller)
{
    (void)caller;
    return PyErr_CheckSignals() < 0;
}
%}

/* ------------------------------------------------------------------------------------------ typemaps */

%typemap(in, numinputs=0) ipcio_caller *caller "$1 = NULL;"

/* Methods reach us through descriptors, which have checked the type of self. */
%typemap(in) ipcio_conn *self, ipcio_server *self, ipcio_set *self
    "$1 = ($1_ltype)((SwigPyObject *)$input)->ptr;"
%typemap(in) ipcio_conn *conn, ipcio_server *server
    "if (!take_handle($input, $descriptor, (void **)&$1)) SWIG_fail;"
%typemap(in) void *handle
    "if (!take_handle($input, NULL, &$1)) SWIG_fail;"

%typemap(in) ipcio_seconds
    "if (!take_timeout($input, &$1)) SWIG_fail;"
%typemap(in) ipcio_file
    "if (($1 = PyObject_AsFileDescriptor($input)) < 0) SWIG_fail;"
%typemap(in) int
    "if (!take_int($input, &$1)) SWIG_fail;"
%typemap(in) size_t
    "if (!take_size($input, &$1)) SWIG_fail;"
%typemap(in) int64_t
    "if (!take_number($input, 1, &$1)) SWIG_fail;"
%typemap(in) uint64_t
    "if (!take_number($input, 0, (int64_t *)&$1)) SWIG_fail;"

%typemap(in) const char *address (PyObject *text = NULL) %{
    if (!(text = take_text($input))) SWIG_fail;
    $1 = PyBytes_AS_STRING(text);
%}
%typemap(in) const char *options (PyObject *text = NULL), const char *ResourceName (PyObject *text = NULL) %{
    if ($input != Py_None) {
        if (!(text = take_text($input))) SWIG_fail;
        $1 = PyBytes_AS_STRING(text);
    }
%}
%typemap(freearg) const char *address, const char *options, const char *ResourceName
    "Py_XDECREF(text$argnum);"

%typemap(in) (const void *data, size_t size) (Py_buffer view = {0}) %{
    if (!take_data($input, &view)) SWIG_fail;
    $1 = view.buf;
    $2 = (size_t)view.len;
%}
%typemap(freearg) (const void *data, size_t size)
    "PyBuffer_Release(&view$argnum);"

%apply (const void *data, size_t size) {(const void *note, size_t note_size)};

%typemap(in, numinputs=0) ipcio_file *taken (ipcio_file taken) "$1 = &taken;"
%typemap(argout) ipcio_file *taken
    "if (!$result && !($result = PyLong_FromLong((long)taken$argnum))) close((int)taken$argnum);"

%typemap(in) (void *to, size_t n, size_t *got) (size_t got, PyObject *piece = NULL) %{
    if (!take_size($input, &$2)) SWIG_fail;
    if ($2 > PIECE_MOST) $2 = PIECE_MOST;
    if (!(piece = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)$2))) SWIG_fail;
    $1 = PyBytes_AS_STRING(piece);
    $3 = &got;
%}
%typemap(argout) (void *to, size_t n, size_t *got) %{
    if (!$result && _PyBytes_Resize(&piece$argnum, (Py_ssize_t)got$argnum) == 0) {
        $result = piece$argnum;
        piece$argnum = NULL;
    }
%}
%typemap(freearg) (void *to, size_t n, size_t *got)
    "Py_XDECREF(piece$argnum);"
%apply (void *to, size_t n, size_t *got) {(void *whole, size_t n, size_t *got)};
%typemap(in) (void *whole, size_t n, size_t *got) (size_t got, PyObject *piece = NULL) %{
    if (!take_size($input, &$2)) SWIG_fail;
    if (!(piece = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)$2))) PyErr_Clear(); /* the call says it */
    $1 = piece ? PyBytes_AS_STRING(piece) : NULL;
    $3 = &got;
%}

%typemap(in, numinputs=0) (int64_t *pid, uint64_t *address) (int64_t pid, uint64_t address)
    "$1 = &pid; $2 = &address;"
%typemap(argout) (int64_t *pid, uint64_t *address) %{
    if (!$result)
        $result = Py_BuildValue("LK", (long long)pid$argnum, (unsigned long long)address$argnum);
%}

/* Views.  `self` is the connection, in functions too: see READING. */
%typemap(in, numinputs=0) (const void **seen, size_t *size) (const void *data, size_t size)
    "$1 = (void *)&data; $2 = &size;"
%typemap(argout) (const void **seen, size_t *size)
    "if (!$result) $result = show(self, IPCIO_WANT_READ, (void *)(uintptr_t)data$argnum, size$argnum);"
%typemap(in) (size_t announced, void **room) (void *room = NULL) %{
    if (!take_size($input, &$1)) SWIG_fail;
    $2 = &room;
%}
%typemap(argout) (size_t announced, void **room)
    "if (!$result) $result = show(self, IPCIO_WANT_WRITE, room$argnum, $1);"

/* A result of ipcio_st is left NULL for the output argument to fill in. */
%typemap(out) ipcio_st %{
    if ($1 < 0) {
        set_error($1);
        SWIG_fail;
    }
    $result = $1 > 0 ? want_object($1) : NULL;
%}
%typemap(out) ipcio_ok %{
    if ($1 < 0) {
        set_error($1);
        SWIG_fail;
    }
    $result = $1 > 0 ? want_object($1) : SWIG_Py_Void();
%}
%typemap(out) ipcio_int %{
    if ($1 < 0) {
        set_error($1);
        SWIG_fail;
    }
    $result = PyLong_FromLong($1);
%}
%typemap(out) const char *address "$result = text_object($1);"
%typemap(out) void *key "$result = PyLong_FromVoidPtr($1);"
%typemap(out) const char *const * %{
    $result = PyList_New(0);
    for (const char *const *p = (const char *const *)$1; $result && *p; p++) {
        PyObject *text = text_object(*p);
        if (!text || PyList_Append($result, text) < 0) Py_CLEAR($result);
        Py_XDECREF(text);
    }
%}

%typemap(in, numinputs=0) (const void **data, size_t *size) (const void *data, size_t size)
    "$1 = (void *)&data; $2 = &size;"
%typemap(argout) (const void **data, size_t *size)
    "if (!$result) $result = PyBytes_FromStringAndSize(data$argnum, (Py_ssize_t)size$argnum);"
%apply (const void **data, size_t *size) {(const void **answer, size_t *answer_size)};

%typemap(in, numinputs=0) size_t *length (size_t length), size_t *written (size_t length) "$1 = &length;"
%typemap(argout) size_t *length, size_t *written
    "if (!$result) $result = PyLong_FromSize_t(length$argnum);"

%typemap(in, numinputs=0) ipcio_peer *peer (ipcio_peer peer) "$1 = &peer;"
%typemap(argout) ipcio_peer *peer %{
    if (!$result)
        $result = PyObject_CallFunction(peer_class, "LLL", (long long)peer$argnum.pid, (long long)peer$argnum.uid,
                                        (long long)peer$argnum.gid);
%}

%typemap(in, numinputs=0) const char **text (const char *text) "$1 = ($1_ltype)&text;"
%typemap(argout) const char **text "if (!$result) $result = text_object(text$argnum);"

%typemap(in, numinputs=0) void **which (void *which) "$1 = &which;"
%typemap(argout) void **which "if (!$result) $result = PyLong_FromVoidPtr(which$argnum);"

%define HANDLE_OUT(type, free)
%typemap(in, numinputs=0) type **OUT (type *handle = NULL) "$1 = &handle;"
%typemap(argout) type **OUT %{
    if (!$result) {
        $result = SWIG_NewPointerObj(handle$argnum, $*1_descriptor, SWIG_POINTER_OWN);
        if ($result)
            open_object($result);
        else
            free(handle$argnum);
    }
%}
%enddef
HANDLE_OUT(ipcio_conn, ipcio_conn_free)
HANDLE_OUT(ipcio_server, ipcio_server_free)
HANDLE_OUT(ipcio_set, ipcio_set_free)
%apply ipcio_conn **OUT {ipcio_conn **conn};
%apply ipcio_server **OUT {ipcio_server **server};
%apply ipcio_set **OUT {ipcio_set **set};

/* -------------------------------------------------------------------------------------- declarations */

%feature("docstring") ipcio_conn "A connection: messages to and from one peer.  Made by connect and Server.accept."
%feature("docstring") ipcio_conn::take_file "take_file($self, /)
--

Returns the file that came with the message that was read last: a descriptor, which is the caller's to close.
os.fdopen makes a file object of it.  Until the next reading call, which closes one that was not taken."
%feature("docstring") ipcio_conn::read_start "read_start($self, /, timeout=None)
--

Waits for the next message and returns its length; read_buffer gives its pieces."
%feature("docstring") ipcio_conn::read_buffer "read_buffer($self, n, /, timeout=None)
--

Returns the next piece of the message, at most n bytes; b'' when the message is through."
%feature("docstring") ipcio_conn::read_end "read_end($self, /, timeout=None)
--

Drops what was not read of the message and gives its room back."
%feature("docstring") ipcio_conn::read_view "read_view($self, /, timeout=None)
--

Waits for the next message and returns a memoryview of it, which shows where the message lies.  The next reading call
ends the view, and is a BufferError while a part of it is in use elsewhere."
%feature("docstring") ipcio_conn::write_start "write_start($self, length, /, timeout=None)
--

Begins a message of this length; write_buffer takes its pieces."
%feature("docstring") ipcio_conn::write_buffer "write_buffer($self, data, /, timeout=None)
--

Sends the next piece of the message."
%feature("docstring") ipcio_conn::write_end "write_end($self, /, timeout=None)
--

Ends the message, which the peer sees only now; too early an end gives the message up."
%feature("docstring") ipcio_conn::write_view "write_view($self, length, /, timeout=None)
--

Returns a memoryview of room for a message of this length, in memory that the peer reads from where the transport has
some.  Fill it in; write_end ends the view and sends the message, and is a BufferError while a part of the view is in use
elsewhere.  Asking again gives the message up."
%feature("docstring") ipcio_conn::fileno "fileno($self, /)
--

A descriptor that is readable exactly when a read would not wait; level-triggered."
%feature("docstring") ipcio_conn::write_fileno "write_fileno($self, /)
--

A descriptor that is writable exactly when a write would not wait; level-triggered."
%feature("docstring") ipcio_conn::shut "close($self, /)
--

Ends the connection; the peer still reads what was sent.  Wakes threads that wait on it."
%feature("docstring") ipcio_conn::peer "Who is at the other end: a Peer."
%feature("docstring") ipcio_conn::sender
    "The address of who wrote the message that was read last, where a connection has many peers (udp)."
%feature("docstring") ipcio_conn::address "The address it was connected to, or the server's."

%feature("docstring") ipcio_server "A server: it has a name and accepts clients.  Made by listen."
%feature("docstring") ipcio_server::accept "accept($self, /, timeout=None)
--

Waits for the next client and returns its Connection."
%feature("docstring") ipcio_server::fileno "fileno($self, /)
--

A descriptor that is readable exactly when an accept would not wait; level-triggered."
%feature("docstring") ipcio_server::halt "stop($self, /)
--

Ends a running serve, or the next one, gracefully; the name and the queue of clients stay.  No other client is
accepted and no other request begun; handlers under way finish, and what they answer is sent, where a client that takes
longer than 5 s for that is given up.  Then serve closes its connections and returns."
%feature("docstring") ipcio_server::shut "close($self, /)
--

Gives the name back and wakes threads that wait in accept.  Connections go on, but those of a running serve, which ends
at once and gives up the handlers under way."
%feature("docstring") ipcio_server::address "The address, with what the system chose filled in."

%feature("docstring") transports "transports($module, /)
--

The schemes that this build can listen at and connect to."
%feature("docstring") copy_memory "read_memory($module, pid, address, n, /)
--

Copies n bytes of the memory of another process of this user: all of it, or an error."
%feature("docstring") ipcio_SleepInterval "SleepInterval($module, ms, /)
--

Sets how often sleep functions are called, 1 to 1000 ms, and returns what it was; 0 only asks."

%define CLOSED_TYPE(type)
%feature("python:tp_basicsize") type "sizeof(handle_object)"
%feature("python:tp_dictoffset") type "0"
%feature("python:tp_weaklistoffset") type "offsetof(handle_object, weak)"
%feature("python:tp_flags") type "Py_TPFLAGS_DEFAULT"
%feature("python:tp_new") type "no_new"
%feature("python:tp_init") type "0"
%exception type::~type %{
    PyObject_ClearWeakRefs(self);
    $action
%}
%enddef
CLOSED_TYPE(ipcio_conn)
CLOSED_TYPE(ipcio_server)
CLOSED_TYPE(ipcio_set)
%feature("python:tp_iter") ipcio_conn "PyObject_SelfIter"
%feature("python:tp_iternext") ipcio_conn "conn_next"
%feature("python:tp_repr") ipcio_conn "conn_repr"
%feature("python:tp_repr") ipcio_server "server_repr"

%define WAITING(method, side)
%feature("kwargs") method;
%exception method %{
    if (!begin_call(self, side)) SWIG_fail;
    $action
    end_call(self, side);
%}
%enddef
WAITING(ipcio_conn::read_start, IPCIO_WANT_READ)
WAITING(ipcio_conn::read_buffer, IPCIO_WANT_READ)
WAITING(ipcio_conn::read_end, IPCIO_WANT_READ)
WAITING(ipcio_conn::write_start, IPCIO_WANT_WRITE)
WAITING(ipcio_conn::write_buffer, IPCIO_WANT_WRITE)
WAITING(ipcio_conn::read_view, IPCIO_WANT_READ)
WAITING(ipcio_server::accept, IPCIO_WANT_READ)
/* Where the room for a message ends. */
%define ENDING_ROOM(method)
%feature("kwargs") method;
%exception method %{
    if (!end_view(self, IPCIO_WANT_WRITE) || !begin_call(self, IPCIO_WANT_WRITE)) SWIG_fail;
    $action
    end_call(self, IPCIO_WANT_WRITE);
%}
%enddef
ENDING_ROOM(ipcio_conn::write_view)
ENDING_ROOM(ipcio_conn::write_end)
/* The tries that use the memory of a view anew.  Another thread must not read before what came is copied. */
%define READING(function)
%exception function %{
    self = swig_obj[0];
    if (!begin_call(self, IPCIO_WANT_READ)) SWIG_fail;
    $action
    end_call(self, IPCIO_WANT_READ);
%}
%enddef
READING(try_read)
READING(try_call)
READING(try_read_start)
READING(try_read_view)
%define WRITING(function)
%exception function %{
    self = swig_obj[0];
    if (!end_view(self, IPCIO_WANT_WRITE)) SWIG_fail;
    $action
%}
%enddef
WRITING(try_write_view)
WRITING(try_write_end)
%exception ipcio_server::halt %{
    tell_serve(self, 1);
    $action
%}
%exception ipcio_server::shut %{
    tell_serve(self, 2);
    $action
%}
%exception try_write %{
    if (!begin_try(swig_obj[0], IPCIO_WANT_WRITE)) SWIG_fail;
    $action
    end_try(swig_obj[0], IPCIO_WANT_WRITE, result);
%}

%native(try_connect) PyObject *try_connect(PyObject *self, PyObject *given);

%include "ipcio.i"

/* A timeout that ipcio.aio was given; what is none is refused as by the calls that wait. */
%inline %{
double seconds(ipcio_seconds timeout)
{
    return timeout;
}
%}

/* Where the data lies that other processes may read now; whoever calls keeps it there. */
%rename(export_memory) show_memory;
%inline %{
ipcio_st show_memory(const void *data, size_t size, int64_t *pid, uint64_t *address)
{
    (void)size;
    return ipcio_memory_export(data, pid, address);
}
%}

/* Lua has no view of memory: its strings are copies. */
%extend ipcio_conn {
    ipcio_st read_view(ipcio_caller *caller, const void **seen, size_t *size, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_read($self, LOOK, seen, size), $self);
        return st;
    }
    ipcio_st write_view(ipcio_caller *caller, size_t announced, void **room, ipcio_seconds timeout = -1) {
        int st;
        REPEAT(st, ipcio_write_view($self, announced, FIRST, room), $self);
        return st;
    }
}
%inline %{
ipcio_st try_read_view(ipcio_conn *conn, const void **seen, size_t *size)
{
    ONE_TRY(ipcio_read(conn, IPCIO_TRY, seen, size), conn);
}

ipcio_st try_write_view(ipcio_conn *conn, size_t announced, void **room)
{
    ONE_TRY(ipcio_write_view(conn, announced, IPCIO_TRY, room), conn);
}
%}

/* --------------------------------------------------------------------------------------- conversions */

%{
/* The classes of IPCIO_STATUS_MAP in its order. */
enum {
#define X(name, ...) CLASS_##name,
    IPCIO_STATUS_MAP(X)
#undef X
    CLASSES
};
static PyObject *error_class[CLASSES], *peer_class, *wants[IPCIO_WANT_WRITE + 1];

static PyObject *class_of(int status)
{
    switch (status) {
#define X(name, number, ...)                                                                                   \
    case number: return error_class[CLASS_##name];
        IPCIO_STATUS_MAP(X)
#undef X
    default: return PyExc_SystemError;
    }
}

static PyObject *text_object(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
}

/* Raises the thread's last error. */
static void set_error(int status)
{
    if (status == IPCIO_RAISED) return;
    int number = ipcio_system_error();
    const char *message = ipcio_message(); /* may have been cut within a character */
    PyObject *class_ = class_of(status);
    PyObject *text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "backslashreplace");
    PyObject *error = text ? PyObject_CallFunctionObjArgs(class_, text, NULL) : NULL;
    if (error && number && PyObject_TypeCheck(error, (PyTypeObject *)PyExc_OSError)) {
        PyObject *value = PyLong_FromLong(number);
        if (!value || PyObject_SetAttrString(error, "errno", value) < 0) Py_CLEAR(error);
        Py_XDECREF(value);
    }
    if (error) PyErr_SetObject(class_, error);
    Py_XDECREF(text);
    Py_XDECREF(error);
}

/* What to wait for: an integer of a class of its own, so that it is never taken for a value. */
static PyObject *want_object(int want)
{
    Py_INCREF(wants[want]);
    return wants[want];
}

static void open_object(PyObject *self)
{
    handle_object *object = (handle_object *)self;
    memset(object->shown, 0, sizeof object->shown);
    object->busy = object->trying = 0;
    object->ended = object->weak = NULL;
    object->owner = getpid();
}

/* Memory of a connection: what was read, or room for what is written.  It keeps the connection, and shows itself once, so
 * that it is known whether anybody still looks at it. */
typedef struct shown_object {
    PyObject_HEAD
    PyObject *conn, *view; /* the latter: a weak reference to the memoryview */
    void *bytes;           /* NULL once they are shown */
    Py_ssize_t size;
    int side;
} shown_object;

static int shown_get(PyObject *self, Py_buffer *view, int flags)
{
    shown_object *shown = (shown_object *)self;
    view->obj = NULL;
    if (!shown->bytes) {
        PyErr_SetString(PyExc_BufferError, "ask the connection for a view");
        return -1;
    }
    if (PyBuffer_FillInfo(view, self, shown->bytes, shown->size, shown->side == IPCIO_WANT_READ, flags) < 0) return -1;
    shown->bytes = NULL;
    ((handle_object *)shown->conn)->shown[shown->side] = shown;
    return 0;
}

static void shown_release(PyObject *self, Py_buffer *view)
{
    (void)view;
    shown_object *shown = (shown_object *)self;
    ((handle_object *)shown->conn)->shown[shown->side] = NULL;
}

static void shown_free(PyObject *self)
{
    Py_XDECREF(((shown_object *)self)->view);
    Py_DECREF(((shown_object *)self)->conn);
    PyObject_Free(self);
}

static PyBufferProcs shown_buffer = {shown_get, shown_release};
static PyTypeObject shown_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "ipcio._core.Shown",
    .tp_basicsize = sizeof(shown_object),
    .tp_dealloc = shown_free,
    .tp_as_buffer = &shown_buffer,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

static PyObject *show(PyObject *conn, int side, void *bytes, size_t size)
{
    shown_object *shown = PyObject_New(shown_object, &shown_type);
    if (!shown) return NULL;
    Py_INCREF(conn);
    shown->conn = conn;
    shown->view = NULL;
    shown->bytes = bytes;
    shown->size = (Py_ssize_t)size;
    shown->side = side;
    PyObject *view = PyMemoryView_FromObject((PyObject *)shown);
    if (view && !(shown->view = PyWeakref_NewRef(view, NULL))) Py_CLEAR(view);
    Py_DECREF(shown);
    return view;
}

/* Raises an error that begins with the address, as the library's do. */
static int refuse(PyObject *self, PyObject *class_, const char *why)
{
    PyObject *address = PyObject_GetAttrString(self, "address");
    if (address) PyErr_Format(class_, "%U: %s", address, why);
    Py_XDECREF(address);
    return 0;
}

/* Ends the view of a side, whose memory is used anew, unless a part of it is still in use: then it stays as it is. */
static int end_view(PyObject *self, int side)
{
    shown_object *const *shown = &((handle_object *)self)->shown[side];
    if (!*shown) return 1;
    PyObject *view = PyObject_CallNoArgs((*shown)->view);
    const PyMemoryViewObject *whole = (PyMemoryViewObject *)view;
    if (view && view != Py_None && whole->exports == 0 && whole->mbuf->exports == 1) /* no slice has it */
        Py_XDECREF(PyObject_CallMethod(view, "release", NULL));
    Py_XDECREF(view);
    if (!*shown) return 1;
    return refuse(self, PyExc_BufferError,
                  side == IPCIO_WANT_READ ? "a part of the view of the message read last, such as a slice, is still in "
                                            "use; release it, then repeat this call"
                                          : "a part of the view of the message, such as a slice, is still in use, so "
                                            "nothing was sent; release it, then repeat this call");
}

static int begin_call(PyObject *self, int side)
{
    handle_object *object = (handle_object *)self;
    if (side & IPCIO_WANT_READ && !end_view(self, IPCIO_WANT_READ)) return 0;
    /* In a forked child no call runs; the core refuses this one. */
    if (!(object->busy & side) || object->owner != getpid()) {
        object->busy |= side;
        return 1;
    }
    return refuse(self, error_class[CLASS_INVALID], "another call in this direction is running");
}

static void end_call(PyObject *self, int side)
{
    ((handle_object *)self)->busy &= ~side;
}

/* The same for a call that answers what to wait for and is repeated. */
static int begin_try(PyObject *self, int side)
{
    handle_object *object = (handle_object *)self;
    if (object->trying & side) return 1;
    if (!begin_call(self, side)) return 0;
    object->trying |= side;
    return 1;
}

static void end_try(PyObject *self, int side, int st)
{
    if (st > 0) return;
    ((handle_object *)self)->trying &= ~side;
    end_call(self, side);
}

/* A running serve learns at once that its server was stopped or closed: what has not begun by then does not begin. */
static void tell_serve(PyObject *self, char how)
{
    PyObject *ended = ((handle_object *)self)->ended;
    if (ended) PyByteArray_AS_STRING(ended)[0] |= how;
}

static int take_timeout(PyObject *from, double *timeout)
{
    *timeout = -1;
    if (from == Py_None) return 1;
    double seconds = PyFloat_AsDouble(from);
    if (seconds == -1 && PyErr_Occurred()) return 0;
    if (!(seconds >= 0)) {
        PyErr_Format(error_class[CLASS_INVALID], "timeout %R: seconds from 0 up, or None, are needed", from);
        return 0;
    }
    *timeout = seconds;
    return 1;
}

static int take_int(PyObject *from, int *value)
{
    int overflow;
    long number = PyLong_AsLongAndOverflow(from, &overflow);
    if (number == -1 && PyErr_Occurred()) return 0;
    if (overflow || number < INT_MIN || number > INT_MAX) {
        PyErr_Format(error_class[CLASS_INVALID], "%R: the number is too large", from);
        return 0;
    }
    *value = (int)number;
    return 1;
}

static int take_size(PyObject *from, size_t *size)
{
    Py_ssize_t n = PyNumber_AsSsize_t(from, PyExc_OverflowError);
    if (n >= 0) {
        *size = (size_t)n;
        return 1;
    }
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError)) return 0;
    PyErr_Format(error_class[CLASS_INVALID], "size %R: a number of bytes from 0 up is needed", from);
    return 0;
}

static int take_number(PyObject *from, int with_sign, int64_t *number)
{
    PyObject *integer = PyNumber_Index(from);
    if (integer && with_sign) *number = PyLong_AsLongLong(integer);
    else if (integer) *number = (int64_t)PyLong_AsUnsignedLongLong(integer);
    Py_XDECREF(integer);
    if (!PyErr_Occurred()) return 1;
    if (PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(error_class[CLASS_INVALID], "%R: the number is too large or below 0", from);
    return 0;
}

/* A bytes object for text; surrogates stand for bytes that are not UTF-8, as in Python's file names. */
static PyObject *take_text(PyObject *from)
{
    if (!PyUnicode_Check(from))
        return PyErr_Format(PyExc_TypeError, "a str is needed, not '%.200s'", Py_TYPE(from)->tp_name);
    PyObject *text = PyUnicode_AsEncodedString(from, "utf-8", "surrogateescape");
    if (text && strlen(PyBytes_AS_STRING(text)) == (size_t)PyBytes_GET_SIZE(text)) return text;
    if (text || PyErr_ExceptionMatches(PyExc_UnicodeError))
        PyErr_Format(error_class[CLASS_INVALID], "%R: text without NUL that is UTF-8 is needed", from);
    Py_XDECREF(text);
    return NULL;
}

/* Data is bytes.  A view with no object, as of bytes, needs no release but allows it. */
static int take_data(PyObject *from, Py_buffer *view)
{
    if (!PyBytes_CheckExact(from)) return PyObject_GetBuffer(from, view, PyBUF_SIMPLE) == 0;
    view->obj = NULL;
    view->buf = PyBytes_AS_STRING(from);
    view->len = PyBytes_GET_SIZE(from);
    return 1;
}

/* The handle in an object of SWIG's type `wanted`, or in a Connection or Server. */
static int take_handle(PyObject *from, swig_type_info *wanted, void **handle)
{
    swig_type_info *types[] = {wanted ? wanted : SWIGTYPE_p_ipcio_conn, wanted ? wanted : SWIGTYPE_p_ipcio_server};
    for (int i = 0; i < 2; i++)
        if (Py_TYPE(from) == ((SwigPyClientData *)types[i]->clientdata)->pytype) {
            *handle = ((SwigPyObject *)from)->ptr;
            return 1;
        }
    PyErr_Format(PyExc_TypeError, "a %s is needed, not '%.200s'",
                 wanted ? ((SwigPyClientData *)wanted->clientdata)->pytype->tp_name : "Connection or Server",
                 Py_TYPE(from)->tp_name);
    return 0;
}
%}

/* ----------------------------------------------------------------------------------------- hot calls */

%{
/* Sorts arguments given by place and by name into `to`.  The first `needed` must be there. */
static int take_arguments(const char *call, const char *const *names, int needed, PyObject *const *given,
                          Py_ssize_t count, PyObject *keywords, PyObject **to)
{
    Py_ssize_t known = 0;
    while (names[known]) known++;
    if (count > known) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", call, known, count);
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) to[i] = given[i];
    for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(keywords); i++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, i);
        Py_ssize_t at = 0;
        while (at < known && PyUnicode_CompareWithASCIIString(name, names[at]) != 0) at++;
        if (at == known || to[at]) {
            PyErr_Format(PyExc_TypeError, "%s() got %s argument '%U'", call,
                         at == known ? "an unexpected keyword" : "multiple values for", name);
            return 0;
        }
        to[at] = given[count + i];
    }
    for (int i = 0; i < needed; i++)
        if (!to[i]) {
            PyErr_Format(PyExc_TypeError, "%s() misses the argument '%s'", call, names[i]);
            return 0;
        }
    return 1;
}

#define HANDLE(type, object) ((type *)((SwigPyObject *)object)->ptr)

static PyObject *conn_read(PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"timeout", NULL};
    PyObject *argument[1] = {NULL};
    double timeout = -1;
    const void *data;
    size_t size;

    if (!take_arguments("read", names, 0, given, count, keywords, argument)) return NULL;
    if (argument[0] && !take_timeout(argument[0], &timeout)) return NULL;
    if (!begin_call(self, IPCIO_WANT_READ)) return NULL;
    int st = ipcio_conn_read(HANDLE(ipcio_conn, self), NULL, &data, &size, timeout);
    end_call(self, IPCIO_WANT_READ);
    if (st == 0) return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    set_error(st);
    return NULL;
}

static PyObject *conn_write(PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"data", "timeout", NULL};
    PyObject *argument[2] = {NULL, NULL};
    double timeout = -1;
    Py_buffer view;

    if (!take_arguments("write", names, 1, given, count, keywords, argument)) return NULL;
    if (argument[1] && !take_timeout(argument[1], &timeout)) return NULL;
    if (!take_data(argument[0], &view)) return NULL;
    int st = IPCIO_RAISED;
    if (begin_call(self, IPCIO_WANT_WRITE)) {
        st = ipcio_conn_write(HANDLE(ipcio_conn, self), NULL, view.buf, (size_t)view.len, timeout);
        end_call(self, IPCIO_WANT_WRITE);
    }
    PyBuffer_Release(&view);
    if (st == 0) Py_RETURN_NONE;
    set_error(st);
    return NULL;
}

static PyObject *conn_send_file(PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"file", "data", "timeout", NULL};
    PyObject *argument[3] = {NULL, NULL, NULL};
    double timeout = -1;
    Py_buffer view = {0};

    if (!take_arguments("send_file", names, 1, given, count, keywords, argument)) return NULL;
    if (argument[2] && !take_timeout(argument[2], &timeout)) return NULL;
    int file = PyObject_AsFileDescriptor(argument[0]);
    if (file < 0 || (argument[1] && !take_data(argument[1], &view))) return NULL;
    int st = IPCIO_RAISED;
    if (begin_call(self, IPCIO_WANT_WRITE)) {
        st = ipcio_conn_send_file(HANDLE(ipcio_conn, self), NULL, file, view.buf, (size_t)view.len, timeout);
        end_call(self, IPCIO_WANT_WRITE);
    }
    PyBuffer_Release(&view);
    if (st == 0) Py_RETURN_NONE;
    set_error(st);
    return NULL;
}

static PyObject *conn_call(PyObject *self, PyObject *const *given, Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"data", "timeout", NULL};
    PyObject *argument[2] = {NULL, NULL};
    double timeout = -1;
    Py_buffer view;
    const void *answer;
    size_t size;

    if (!take_arguments("call", names, 1, given, count, keywords, argument)) return NULL;
    if (argument[1] && !take_timeout(argument[1], &timeout)) return NULL;
    if (!take_data(argument[0], &view)) return NULL;
    int st = IPCIO_RAISED;
    if (begin_call(self, IPCIO_WANT_READ | IPCIO_WANT_WRITE)) {
        st = ipcio_conn_call(HANDLE(ipcio_conn, self), NULL, view.buf, (size_t)view.len, &answer, &size, timeout);
        end_call(self, IPCIO_WANT_READ | IPCIO_WANT_WRITE);
    }
    PyBuffer_Release(&view);
    if (st == 0) return PyBytes_FromStringAndSize(answer, (Py_ssize_t)size);
    set_error(st);
    return NULL;
}

/* One try of connect, for ipcio.aio: the connection, and None or what to wait for.  `begun` is the connection of the
 * try before, or None. */
static PyObject *try_connect(PyObject *self, PyObject *given)
{
    PyObject *address, *options, *begun, *address_text = NULL, *options_text = NULL;
    ipcio_conn *conn = NULL;

    if (!PyArg_UnpackTuple(given, "try_connect", 3, 3, &address, &options, &begun)) return NULL;
    if (begun != Py_None && !take_handle(begun, SWIGTYPE_p_ipcio_conn, (void **)&conn)) return NULL;
    int st = IPCIO_RAISED;
    if ((address_text = take_text(address)) && (options_text = take_text(options)))
        TRY(st, ipcio_connect(PyBytes_AS_STRING(address_text), PyBytes_AS_STRING(options_text), IPCIO_TRY, &conn), NULL);
    Py_XDECREF(address_text);
    Py_XDECREF(options_text);
    if (st < 0) {
        set_error(st);
        return NULL;
    }
    if (begun == Py_None) {
        begun = SWIG_NewPointerObj(conn, SWIGTYPE_p_ipcio_conn, SWIG_POINTER_OWN);
        if (!begun) {
            ipcio_conn_free(conn);
            return NULL;
        }
        open_object(begun);
    } else {
        Py_INCREF(begun);
    }
    PyObject *want = st > 0 ? want_object(st) : SWIG_Py_Void();
    PyObject *result = PyTuple_Pack(2, begun, want);
    Py_DECREF(begun);
    Py_DECREF(want);
    return result;
}

/* ------------------------------------------------------------------------------ what Python expects */

/* The end of the messages is not an error here. */
static PyObject *conn_next(PyObject *self)
{
    const void *data;
    size_t size;
    if (!begin_call(self, IPCIO_WANT_READ)) return NULL;
    int st = ipcio_conn_read(HANDLE(ipcio_conn, self), NULL, &data, &size, -1);
    end_call(self, IPCIO_WANT_READ);
    if (st == 0) return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    if (st != IPCIO_CLOSED) set_error(st);
    return NULL;
}

static PyObject *representation(const char *class_, const char *address)
{
    PyObject *text = text_object(address);
    PyObject *result = text ? PyUnicode_FromFormat("<ipcio.%s %U>", class_, text) : NULL;
    Py_XDECREF(text);
    return result;
}

static PyObject *conn_repr(PyObject *self)
{
    return representation("Connection", ipcio_conn_address(HANDLE(ipcio_conn, self)));
}

static PyObject *server_repr(PyObject *self)
{
    return representation("Server", ipcio_server_address(HANDLE(ipcio_server, self)));
}

static PyObject *enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_INCREF(self);
    return self;
}

static PyObject *conn_exit(PyObject *self, PyObject *unused)
{
    (void)unused;
    ipcio_conn_shut(HANDLE(ipcio_conn, self));
    Py_RETURN_NONE;
}

static PyObject *server_exit(PyObject *self, PyObject *unused)
{
    (void)unused;
    tell_serve(self, 2);
    ipcio_server_shut(HANDLE(ipcio_server, self));
    Py_RETURN_NONE;
}

/* Server.serve is Python: ipcio._serve.serve(self, ended, ...). */
static PyObject *server_serve(PyObject *self, PyObject *given, PyObject *keywords)
{
    if (!begin_call(self, IPCIO_WANT_READ)) return NULL;
    handle_object *object = (handle_object *)self;
    PyObject *result = NULL, *module = PyImport_ImportModule("ipcio._serve");
    PyObject *serve = module ? PyObject_GetAttrString(module, "serve") : NULL;
    PyObject *ended = serve ? PyByteArray_FromStringAndSize("", 1) : NULL;
    PyObject *first = ended ? PyTuple_Pack(2, self, ended) : NULL;
    PyObject *all = first ? PySequence_Concat(first, given) : NULL;
    object->ended = ended;
    if (all) result = PyObject_Call(serve, all, keywords);
    object->ended = NULL;
    Py_XDECREF(all);
    Py_XDECREF(first);
    Py_XDECREF(ended);
    Py_XDECREF(serve);
    Py_XDECREF(module);
    end_call(self, IPCIO_WANT_READ);
    return result;
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef conn_methods[] = {
    {"read", FAST(conn_read), "read($self, /, timeout=None)\n--\n\nWaits for the next message and returns it."},
    {"write", FAST(conn_write),
     "write($self, /, data, timeout=None)\n--\n\nSends one message: bytes, or any object with a buffer."},
    {"send_file", FAST(conn_send_file),
     "send_file($self, /, file, data=b'', timeout=None)\n--\n\n"
     "Passes an open file with a message: a descriptor, or an object with fileno(), which stays open here.  Both sides\n"
     "then have the same file, with one offset; what a file object holds in its buffer is not passed."},
    {"call", FAST(conn_call),
     "call($self, /, data, timeout=None)\n--\n\nWrites a message and returns the next one, under one deadline."},
    {"messages", enter, METH_NOARGS,
     "messages($self, /)\n--\n\nAn iterator over the messages; it ends when the peer has closed."},
    {"__enter__", enter, METH_NOARGS, NULL},
    {"__exit__", conn_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyMethodDef server_methods[] = {
    {"serve", (PyCFunction)(void (*)(void))server_serve, METH_VARARGS | METH_KEYWORDS,
     "serve($self, /, handler, on_error=None)\n--\n\n"
     "Answers all clients until the server is stopped or closed.  handler(request, conn) returns the answer, or None.\n"
     "One that has to wait may be a generator function: when it yields, the other clients have their turn.\n"
     "An error in it closes that client, and goes to on_error(error, conn) or with its traceback to standard error."},
    {"__enter__", enter, METH_NOARGS, NULL},
    {"__exit__", server_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyMethodDef set_methods[] = {{NULL, NULL, 0, NULL}};

static PyObject *no_new(PyTypeObject *type, PyObject *given, PyObject *keywords)
{
    (void)given, (void)keywords;
    return PyErr_Format(PyExc_TypeError, "%s objects are made by ipcio.connect, ipcio.listen and Server.accept",
                        type->tp_name);
}

static int add_method(PyTypeObject *type, PyMethodDef *method)
{
    PyObject *descriptor = PyDescr_NewMethod(type, method);
    int st = descriptor ? PyDict_SetItemString(type->tp_dict, method->ml_name, descriptor) : -1;
    Py_XDECREF(descriptor);
    return st;
}

static int make_property(PyTypeObject *type, const char *name)
{
    PyObject *method = PyDict_GetItemString(type->tp_dict, name);
    PyObject *doc = method ? PyObject_GetAttrString(method, "__doc__") : NULL;
    PyObject *property = doc ? PyObject_CallFunctionObjArgs((PyObject *)&PyProperty_Type, method, Py_None, Py_None,
                                                            doc, NULL) : NULL;
    int st = property ? PyDict_SetItemString(type->tp_dict, name, property) : -1;
    Py_XDECREF(doc);
    Py_XDECREF(property);
    return st;
}

/* Takes what SWIG's types give to scripts and can crash them: the pointer, its ownership, a dictionary. */
static int close_type(PyTypeObject *type)
{
    static const char *const open[] = {"this", "thisown", "__dict__", "disown", "acquire", "own", "append", "next",
                                       "__int__", NULL};
    for (const char *const *name = open; *name; name++)
        if (PyDict_GetItemString(type->tp_dict, *name) && PyDict_DelItemString(type->tp_dict, *name) < 0) return -1;
    type->tp_as_number->nb_int = NULL;
    Py_SET_TYPE(type, &PyType_Type); /* SWIG's own is for static member variables */
    PyType_Modified(type);
    return 0;
}

/* SWIG begins a comment of several lines with an empty one, which would hide the signature from inspect. */
static void show_signatures(PyMethodDef *methods)
{
    for (; methods->ml_name; methods++)
        if (methods->ml_doc) methods->ml_doc += methods->ml_doc[0] == '\n';
}

static int finish_type(swig_type_info *info, const char *name, PyMethodDef *methods)
{
    PyTypeObject *type = ((SwigPyClientData *)info->clientdata)->pytype;
    type->tp_name = name;
    show_signatures(type->tp_methods);
    for (; methods->ml_name; methods++)
        if (add_method(type, methods) < 0) return -1;
    return close_type(type);
}

/* class name(base, other): code = code */
static PyObject *make_class(PyObject *module, const char *name, PyObject *base, const char *other, const char *code,
                            const char *doc)
{
    char full[64];
    (void)snprintf(full, sizeof full, "ipcio.%s", name);
    PyObject *dict = Py_BuildValue("{s:s}", "code", code);
    PyObject *second = other ? PyDict_GetItemString(PyEval_GetBuiltins(), other) : NULL;
    PyObject *bases = second ? PyTuple_Pack(2, base, second) : PyTuple_Pack(1, base);
    PyObject *made = dict && bases ? PyErr_NewExceptionWithDoc(full, doc, bases, dict) : NULL;
    Py_XDECREF(dict);
    Py_XDECREF(bases);
    if (made && PyObject_SetAttrString(module, name, made) < 0) Py_CLEAR(made);
    return made;
}

/* What Python code makes, as it has no C form, or a longer one. */
static PyObject *evaluate(PyObject *module, PyObject *owner, const char *name, const char *code)
{
    PyObject *globals = PyModule_GetDict(module), *made = PyRun_String(code, Py_eval_input, globals, globals);
    if (made && PyObject_SetAttrString(owner, name, made) < 0) Py_CLEAR(made);
    return made;
}

static int make_errors(PyObject *module)
{
    PyObject *base = make_class(module, "Error", PyExc_Exception, NULL, "unknown", "The base of ipcio's errors.");
    PyObject *names = PyModule_GetDict(module);
    PyObject *reduce = !base ? NULL : PyRun_String(
        "def __reduce__(self):\n"
        "    'For copies.  OSError\\'s own forgets the number of an error that was made of a message alone.'\n"
        "    if not isinstance(self, OSError): return type(self), self.args, vars(self)\n"
        "    return type(self), OSError.__reduce__(self)[1], vars(self) | {'errno': self.errno}\n",
        Py_file_input, names, ((PyTypeObject *)base)->tp_dict);
    Py_XDECREF(reduce);
    if (!reduce) return -1;
    PyType_Modified((PyTypeObject *)base);
#define X(name, number, code, class_, other, meaning)                                                          \
    if (!(error_class[CLASS_##name] = make_class(module, class_, base, other, ipcio_code(number), meaning))) return -1;
    IPCIO_STATUS_MAP(X)
#undef X
    Py_DECREF(base);
    return 0;
}

static int make_classes(PyObject *module)
{
    peer_class =
        evaluate(module, module, "Peer", "__import__('collections').namedtuple('Peer', 'pid uid gid', module='ipcio')");
    PyObject *want = evaluate(module, module, "Want", "type('Want', (int,), {'__module__': __name__, '__slots__': ()})");
    for (int i = IPCIO_WANT_READ; want && i <= IPCIO_WANT_WRITE; i++)
        if (!(wants[i] = PyObject_CallFunction(want, "i", i))) return -1;
    Py_XDECREF(want);
    return peer_class && want ? 0 : -1;
}

static int finish_module(PyObject *module)
{
    PyTypeObject *conn = ((SwigPyClientData *)SWIGTYPE_p_ipcio_conn->clientdata)->pytype;
    PyTypeObject *server = ((SwigPyClientData *)SWIGTYPE_p_ipcio_server->clientdata)->pytype;
    static PyObject *globals; /* SWIG drops its table of global variables in the end and does not free it */

    globals = SWIG_globals();
    Py_XINCREF(globals);
    if (PyObject_DelAttrString(module, "__all__") < 0 || PyType_Ready(&shown_type) < 0 ||
        make_errors(module) < 0 || make_classes(module) < 0 ||
        close_type(SwigPyObject_type()) < 0 ||
        make_property(conn, "address") < 0 || make_property(conn, "peer") < 0 ||
        make_property(conn, "sender") < 0 || make_property(server, "address") < 0 ||
        finish_type(SWIGTYPE_p_ipcio_conn, "ipcio.Connection", conn_methods) < 0 ||
        finish_type(SWIGTYPE_p_ipcio_server, "ipcio.Server", server_methods) < 0 ||
        finish_type(SWIGTYPE_p_ipcio_set, "ipcio._core.Set", set_methods) < 0)
        return -1;
    return 0;
}
%}

%init %{
    show_signatures(SwigMethods);
    if (finish_module(m) < 0) FAIL_INIT(m);
%}
