/* lua.i - the C half of the Lua module: require "ipcio.core".  lua/ipcio/init.lua is the other half.
 *
 * SWIG's own Lua typemaps take any userdata for an object and nil for NULL.  Those here replace all that
 * ipcio.i uses; the hot calls (read, write, call) cost no more than hand-written ones. */
%module ipcio_core

%begin %{
#define _POSIX_C_SOURCE 200809L
%}

%{
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#if LUA_MAXINTEGER < PTRDIFF_MAX
#error "Lua's integers hold no length or address of this machine: it was built with LUA_32BITS"
#endif

/* Every typemap below checks its own argument. */
#undef SWIG_check_num_args
#define SWIG_check_num_args(name, min, max)

/* luaopen would set the globals swig_type and swig_equals. */
#undef SWIG_Lua_add_function
#define SWIG_Lua_add_function(L, name, function)

typedef lua_State ipcio_caller;
#define IPCIO_BLOCKING(statement) statement

static int nothing(lua_State *L)
{
    (void)L;
    return 0;
}

/* lua5.4's SIGINT handler sets a hook on the main thread, and the hook raises "interrupted!" when Lua code
 * runs next.  Calling a function that does nothing makes it run, also for a coroutine that waits.  The
 * error is left on the stack. */
static int check_signals(lua_State *L)
{
    lua_Hook hook = lua_gethook(L);
    int mask = lua_gethookmask(L), count = lua_gethookcount(L), raised;
    lua_State *main;

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    main = lua_tothread(L, -1);
    lua_pop(L, 1);
    if (!lua_gethook(main))
        return 0;
    if (main != L)
        lua_sethook(L, lua_gethook(main), lua_gethookmask(main), lua_gethookcount(main));
    lua_pushcfunction(L, nothing);
    raised = lua_pcall(L, 0, 0, 0) != LUA_OK;
    if (main != L)
        lua_sethook(L, hook, mask, count);
    return raised;
}
%}

/* ----------------------------------------------------------------------------------------- results */

%{
#include "ipcio.h"

/* What a call answers that did not succeed: nil, message, code, or nil, what to wait for. */
static int answer_status(lua_State *L, int st)
{
    if (st == IPCIO_RAISED)
        return lua_error(L);
    lua_pushnil(L);
    if (st > 0) {
        lua_pushinteger(L, st);
        return 2;
    }
    lua_pushstring(L, ipcio_message());
    lua_pushstring(L, ipcio_code(st));
    return 3;
}

/* The same for an argument of the right type but of no use. */
static int refuse(lua_State *L, const char *message)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, ipcio_code(IPCIO_INVALID));
    return 3;
}

static int no_memory(lua_State *L, size_t n)
{
    lua_pushnil(L);
    lua_pushfstring(L, "no memory for %I bytes", (LUAI_UACINT)n);
    lua_pushstring(L, ipcio_code(IPCIO_NOMEMORY));
    return 3;
}
%}

%typemap(out) ipcio_st %{
    if ($1 != 0)
        return answer_status(L, $1);
%}

%typemap(out) ipcio_ok %{
    if ($1 != 0)
        return answer_status(L, $1);
    lua_pushboolean(L, 1);
    SWIG_arg++;
%}

%typemap(out) ipcio_int %{
    if ($1 < 0)
        return answer_status(L, $1);
    lua_pushinteger(L, $1);
    SWIG_arg++;
%}

%typemap(out) int %{
    lua_pushinteger(L, $1);
    SWIG_arg++;
%}

%typemap(out) const char *const * {
    int i;
    lua_newtable(L);
    for (i = 0; $1[i]; i++) {
        lua_pushstring(L, $1[i]);
        lua_rawseti(L, -2, i + 1);
    }
    SWIG_arg++;
}

/* --------------------------------------------------------------------------------------- arguments */

%{
/* A timeout at index i: nil is -1.  False if it is none. */
static int seconds_at(lua_State *L, int i, double *seconds)
{
    if (lua_isnil(L, i)) {
        *seconds = -1;
        return 1;
    }
    *seconds = luaL_checknumber(L, i);
    return *seconds >= 0;
}

/* An integer at index i, from min to max.  False if it is not among them. */
static int integer_at(lua_State *L, int i, lua_Integer min, lua_Integer max, lua_Integer *value)
{
    *value = luaL_checkinteger(L, i);
    return min <= *value && *value <= max;
}

/* A length at index i; one that nobody has memory for becomes another such, which can be doubled and have a header.
 * False if it is negative. */
static int length_at(lua_State *L, int i, size_t *length)
{
    lua_Integer integer = luaL_checkinteger(L, i), most = PTRDIFF_MAX / 4;

    *length = (size_t)(integer < most ? integer : most);
    return integer >= 0;
}

/* Whether Lua can have so much, where it raises an error of its own if not. */
static int has_memory(lua_State *L, size_t n)
{
    void *context;
    lua_Alloc allocate = lua_getallocf(L, &context);
    void *room = allocate(context, NULL, 0, n);

    if (room)
        allocate(context, room, n, 0);
    return room != NULL || n == 0;
}

/* Text without NUL at index i.  False if it has one. */
static int text_at(lua_State *L, int i, char **text)
{
    size_t size;

    *text = (char *)luaL_checklstring(L, i, &size);
    return strlen(*text) == size;
}
%}

%typemap(in, numinputs=0) ipcio_caller *caller "$1 = L;"

%typemap(in) ipcio_seconds %{
    if (!seconds_at(L, $input, &$1))
        return refuse(L, "a timeout must be nil, 0 or more seconds");
%}

%typemap(in) int (lua_Integer integer) %{
    if (!integer_at(L, $input, INT_MIN, INT_MAX, &integer))
        return refuse(L, "$1_name is out of range");
    $1 = (int)integer;
%}

%typemap(in) size_t %{
    if (!length_at(L, $input, &$1))
        return refuse(L, "a length must not be negative");
%}

%typemap(in) int64_t, uint64_t "$1 = ($1_ltype)luaL_checkinteger(L, $input);"

%typemap(in) const char * %{
    if (!text_at(L, $input, &$1))
        return refuse(L, "$1_name contains a NUL byte");
%}

%typemap(in) const char *options, const char *ResourceName %{
    if (!lua_isnoneornil(L, $input) && !text_at(L, $input, &$1))
        return refuse(L, "$1_name contains a NUL byte");
%}

%typemap(in) (const void *data, size_t size) "$1 = (void *)luaL_checklstring(L, $input, &$2);"

%typemap(in) (const void *note, size_t note_size) "$1 = (void *)luaL_optlstring(L, $input, \"\", &$2);"

%typemap(in, numinputs=0) (const void **data, size_t *size) (void *message, size_t length)
    "$1 = &message; $2 = &length;"
%typemap(argout) (const void **data, size_t *size) "lua_pushlstring(L, *$1, *$2); SWIG_arg++;"
%apply (const void **data, size_t *size) { (const void **answer, size_t *answer_size) };

%typemap(in, numinputs=0) size_t *length (size_t length), size_t *written (size_t length) "$1 = &length;"
%typemap(argout) size_t *length, size_t *written "lua_pushinteger(L, (lua_Integer)*$1); SWIG_arg++;"

/* The buffer is made when all arguments are read: it may take a place on the stack. */
%typemap(in) (void *to, size_t n, size_t *got) (luaL_Buffer piece, size_t length) %{
    if (!length_at(L, $input, &$2) || $2 == 0)
        return refuse(L, "the length of a piece must be above 0");
    if ($2 > PIECE_MOST)
        $2 = PIECE_MOST;
    $3 = &length;
%}
%typemap(check) (void *to, size_t n, size_t *got) "$1 = luaL_buffinitsize(L, &piece$argnum, $2);"
%typemap(argout) (void *to, size_t n, size_t *got) "luaL_pushresultsize(&piece$argnum, *$3); SWIG_arg++;"

%apply (void *to, size_t n, size_t *got) { (void *whole, size_t n, size_t *got) };
%typemap(in) (void *whole, size_t n, size_t *got) (luaL_Buffer piece, size_t length) %{
    if (!length_at(L, $input, &$2))
        return refuse(L, "a length must not be negative");
    $3 = &length;
%}
/* The string is a copy of the buffer. */
%typemap(check) (void *whole, size_t n, size_t *got)
    "$1 = has_memory(L, 2 * $2) ? luaL_buffinitsize(L, &piece$argnum, $2) : NULL;"

%typemap(in, numinputs=0) ipcio_peer *peer (ipcio_peer peer) "$1 = &peer;"
%typemap(argout) ipcio_peer *peer {
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, $1->pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, $1->uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, $1->gid);
    lua_setfield(L, -2, "gid");
    SWIG_arg++;
}

%typemap(in, numinputs=0) const char **text (const char *text) "$1 = ($1_ltype)&text;"
%typemap(argout) const char **text "lua_pushstring(L, *$1); SWIG_arg++;"

/* ------------------------------------------------------------------------------------------- files */

%{
/* A file object, or the number of a descriptor, at index i.  What the object has written or read ahead is settled with
 * the system first.  False if that fails. */
static int file_at(lua_State *L, int i, intptr_t *file)
{
    luaL_Stream *stream = luaL_testudata(L, i, LUA_FILEHANDLE);

    if (!stream) {
        luaL_argexpected(L, lua_isinteger(L, i), i, "file or integer");
        *file = (intptr_t)lua_tointeger(L, i);
        return 1;
    }
    luaL_argcheck(L, stream->closef, i, "it is closed");
    *file = fileno(stream->f);
    return fflush(stream->f) == 0;
}

/* A mode of io.open at index i, or NULL. */
static const char *mode_at(lua_State *L, int i)
{
    const char *mode = luaL_optstring(L, i, NULL), *rest = mode;

    if (mode) {
        rest += strspn(mode, "rwa") == 1;
        rest += *rest == '+';
        rest += *rest == 'b';
        luaL_argcheck(L, rest > mode && strchr("rwa", *mode) && *rest == 0, i, "invalid mode");
    }
    return mode;
}

static int close_stream(lua_State *L)
{
    luaL_Stream *stream = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    return luaL_fileresult(L, fclose(stream->f) == 0, NULL);
}

/* A closed file object, made before there is a file, so that none is lost when memory is used up. */
static luaL_Stream *new_stream(lua_State *L)
{
    luaL_Stream *stream = lua_newuserdatauv(L, sizeof *stream, 0);

    stream->closef = NULL;
    if (luaL_getmetatable(L, LUA_FILEHANDLE) != LUA_TTABLE)
        luaL_error(L, "files need the library io");
    lua_setmetatable(L, -2);
    return stream;
}

/* Opens it with the mode, or the one that the file was opened with.  False if that is another. */
static int open_stream(luaL_Stream *stream, int fd, const char *mode)
{
    int own = fcntl(fd, F_GETFL) & O_ACCMODE;

    stream->f = fdopen(fd, mode ? mode : own == O_RDONLY ? "r" : own == O_WRONLY ? "w" : "r+");
    if (stream->f)
        stream->closef = close_stream;
    else
        close(fd);
    return stream->f != NULL;
}
%}

%typemap(in) ipcio_file %{
    if (!file_at(L, $input, &$1))
        return refuse(L, "what was written to the file cannot be flushed");
%}

%typemap(in) ipcio_file *taken (ipcio_file file, const char *mode, luaL_Stream *stream)
    "mode = mode_at(L, $input); $1 = &file;"
%typemap(check) ipcio_file *taken "stream$argnum = new_stream(L);"
%typemap(argout) ipcio_file *taken %{
    if (!open_stream(stream$argnum, (int)*$1, mode$argnum))
        return refuse(L, "the file that came was opened for another mode; it is closed");
    SWIG_arg++;
%}

/* ----------------------------------------------------------------------------------------- classes
 *
 * Objects are SWIG's userdata with a metatable of our own: __index is the table of methods itself, nothing
 * can be set, and finalizing twice does no harm. */

%{
/* The object at index i.  The size alone rules out nearly all userdata of others, and every light one. */
static swig_lua_userdata *userdata_at(lua_State *L, int i, const swig_type_info *type)
{
    swig_lua_userdata *object = lua_touserdata(L, i);
    return object && lua_rawlen(L, i) == sizeof *object && object->type == type ? object : NULL;
}

static void *object_at(lua_State *L, int i, const swig_type_info *type, const char *expected)
{
    const swig_lua_userdata *object = userdata_at(L, i, type);

    if (!object)
        luaL_typeerror(L, i, expected);
    if (!object->ptr)
        luaL_argerror(L, i, "it is finalized");
    return object->ptr;
}

/* Made before what it will hold, so that nothing is lost when memory is used up. */
static swig_lua_userdata *new_object(lua_State *L, swig_type_info *type, const char *name)
{
    swig_lua_userdata *object = lua_newuserdatauv(L, sizeof *object, 0);

    object->type = type;
    object->own = 1;
    object->ptr = NULL;
    luaL_setmetatable(L, name);
    return object;
}

/* __gc */
static int finalize(lua_State *L)
{
    const swig_type_info *type = lua_touserdata(L, lua_upvalueindex(1));
    swig_lua_userdata *object = userdata_at(L, 1, type);

    if (object && object->ptr) {
        void *handle = object->ptr;
        object->ptr = NULL;
        ((const swig_lua_class *)type->clientdata)->destructor(handle);
    }
    return 0;
}

/* __tostring: the class and the address. */
static int describe(lua_State *L)
{
    luaL_getmetafield(L, 1, "__name");
    lua_getfield(L, 1, "address");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

/* The class's metatable, and its methods as a field of the module on top of the stack. */
static void open_class(lua_State *L, swig_type_info *type, const char *name)
{
    const swig_lua_class *class_ = type->clientdata;
    const swig_lua_method *method;

    luaL_newmetatable(L, name);
    lua_newtable(L);
    for (method = class_->methods; method->name; method++) {
        lua_pushcfunction(L, method->func);
        lua_setfield(L, -2, method->name);
    }
    lua_pushlightuserdata(L, type);
    lua_pushcclosure(L, finalize, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "__gc");
    if (lua_getfield(L, -2, "close") == LUA_TNIL)
        lua_pop(L, 1);
    else
        lua_remove(L, -2);
    lua_setfield(L, -3, "__close");
    if (lua_getfield(L, -1, "address") != LUA_TNIL) {
        lua_pushcfunction(L, describe);
        lua_setfield(L, -4, "__tostring");
    }
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -3, "__metatable");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -3, strchr(name, '.') + 1);
    lua_pop(L, 1);
}
%}

%define CLASS(type, variable, name)
%typemap(in) type * %{ $1 = object_at(L, $input, $1_descriptor, name); %}
%typemap(in, numinputs=0) type **variable (type *handle, swig_lua_userdata *object) "$1 = &handle;"
%typemap(check) type **variable %{ object$argnum = new_object(L, $*1_descriptor, name); %}
%typemap(argout) type **variable %{ object$argnum->ptr = *$1; SWIG_arg++; %}
%init %{ open_class(L, SWIGTYPE_p_##type, name); %}
%enddef

CLASS(ipcio_conn, conn, "ipcio.Connection")
CLASS(ipcio_server, server, "ipcio.Server")
CLASS(ipcio_set, set, "ipcio.Set")

%typemap(in) void *handle %{
    if (userdata_at(L, $input, SWIGTYPE_p_ipcio_server))
        $1 = object_at(L, $input, SWIGTYPE_p_ipcio_server, "ipcio.Server");
    else
        $1 = object_at(L, $input, SWIGTYPE_p_ipcio_conn, "ipcio.Connection or ipcio.Server");
%}

/* The key of a handle is light userdata, which no method takes. */
%typemap(out) void * "lua_pushlightuserdata(L, $1); SWIG_arg++;"
%typemap(in, numinputs=0) void **which (void *which) "$1 = &which;"
%typemap(argout) void **which "lua_pushlightuserdata(L, *$1); SWIG_arg++;"

%include "ipcio.i"

/* Seconds of the monotonic clock, for serve. */
%inline %{
double now(void)
{
    return (double)ipcio_now() / 1e9;
}
%}

/* --------------------------------------------------------------------------------- exported memory
 *
 * Bytes that stay where they are, as Lua's strings need not, for other processes to read.  The collector frees them. */

%{
#define MEMORY "ipcio.Memory"

typedef struct {
    int64_t pid;
    uint64_t address;
    size_t size;
    char bytes[];
} exported_memory;

static int export_memory(lua_State *L)
{
    size_t size;
    const char *text = NULL;
    exported_memory *m;

    luaL_argexpected(L, lua_isstring(L, 1), 1, "string or integer");
    if (lua_type(L, 1) == LUA_TSTRING)
        text = lua_tolstring(L, 1, &size);
    else if (!length_at(L, 1, &size))
        return refuse(L, "a length must not be negative");
    if (!has_memory(L, sizeof *m + size))
        return no_memory(L, size);
    m = lua_newuserdatauv(L, sizeof *m + size, 0);
    m->size = size;
    if (text)
        memcpy(m->bytes, text, size);
    else
        memset(m->bytes, 0, size);
    luaL_setmetatable(L, MEMORY);
    ipcio_st st = ipcio_memory_export(m->bytes, &m->pid, &m->address);
    return st == 0 ? 1 : answer_status(L, st);
}

static exported_memory *memory_at(lua_State *L)
{
    return luaL_checkudata(L, 1, MEMORY);
}

static int memory_pid(lua_State *L)
{
    lua_pushinteger(L, memory_at(L)->pid);
    return 1;
}

static int memory_address(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)memory_at(L)->address);
    return 1;
}

static int memory_size(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)memory_at(L)->size);
    return 1;
}

/* read(offset, n): the rest by default. */
static int memory_read(lua_State *L)
{
    exported_memory *m = memory_at(L);
    lua_Integer size = (lua_Integer)m->size, offset = luaL_optinteger(L, 2, 0);
    lua_Integer left = offset < 0 || offset > size ? -1 : size - offset, n = luaL_optinteger(L, 3, left);

    if (left < 0 || n < 0 || n > left)
        return refuse(L, "a part of the memory is needed: an offset from 0, and a length");
    lua_pushlstring(L, m->bytes + offset, (size_t)n);
    return 1;
}

static int memory_write(lua_State *L)
{
    exported_memory *m = memory_at(L);
    lua_Integer size = (lua_Integer)m->size, offset = luaL_checkinteger(L, 2);
    size_t n;
    const char *data = luaL_checklstring(L, 3, &n);

    if (offset < 0 || offset > size || n > (size_t)(size - offset))
        return refuse(L, "the data would go beyond the end of the memory");
    memcpy(m->bytes + offset, data, n);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg memory_methods[] = {
    {"pid", memory_pid},   {"address", memory_address}, {"size", memory_size},
    {"read", memory_read}, {"write", memory_write},     {NULL, NULL}};
%}
%native(export_memory) int export_memory(lua_State *L);
%init %{
    luaL_newmetatable(L, MEMORY);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, memory_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
%}

/* --------------------------------------------------------------------------------- sleep functions */

%{
static int came_back(lua_State *L, int status, lua_KContext yielded)
{
    (void)status;
    lua_pushboolean(L, yielded != 0);
    return 2;
}

/* call_sleep(f): what f answers, and whether it yielded its coroutine, so that time has passed. */
static int call_sleep(lua_State *L)
{
    lua_settop(L, 1);
    lua_callk(L, 0, 1, 1, came_back);
    return came_back(L, LUA_OK, 0);
}
%}
%native(call_sleep) int call_sleep(lua_State *L);
