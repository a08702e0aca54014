// Copyright 2026 the Duplex authors. MIT license.

/**
 * The types of calls: what a caller sees of the methods that its peer exposes, and how
 * the methods receive its arguments.
 *
 * A call of a function among the arguments returns a promise at the method, whatever
 * the caller gave. So the caller may give an asynchronous function for each, and the
 * method must declare a result that can be a promise.
 *
 * TypeScript does not show everything: a getter, an inherited method and a method of
 * a class have the same types as an own function. A generic method is called with the
 * constraints of its type parameters.
 *
 * @module
 */

/** Any function. */
export type AnyFunction = (...args: never[]) => unknown;

/**
 * Whether a type is `any`.
 *
 * @internal
 */
export type IsAny<Value> = 0 extends 1 & Value ? true : false;

/**
 * An object that is sent by reference; {@linkcode reference} makes one. At the peer it
 * is a {@linkcode RemoteReference}.
 *
 * @typeParam Methods The type of the object.
 */
export interface Reference<Methods extends object> {
  /** The object. */
  readonly object: Methods;
  /** A function, so that no codec sends a reference as a plain object. */
  readonly marked: () => void;
}

/**
 * An object of the peer that was sent by reference: its methods, and
 * `[Symbol.dispose]`, which releases it.
 *
 * @typeParam Methods The type of the object.
 */
export type RemoteReference<Methods> = Remote<Methods> & Disposable;

/** Values that arrive as something of another type. */
type Special = AnyFunction | Reference<object> | Disposable;

/** Objects that stay as they are, although they have methods. */
type Opaque =
  | AbortSignal
  | ArrayBuffer
  | ArrayBufferView
  | Blob
  | Date
  | Error
  | Headers
  | PromiseLike<unknown>
  | ReadableStream
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | RegExp
  | SharedArrayBuffer
  | URL
  | WritableStream;

/** An argument as its caller may give it: its functions may be asynchronous. */
type Given<Value> = IsAny<Value> extends true ? Value
  : Value extends AnyFunction ? GivenFunction<Value>
  : Value extends Opaque ? Value
  : Value extends readonly unknown[] ? GivenList<Value>
  : Value extends Disposable ? Value | Reference<Local<Value>>
  : Value extends object ? SpecialKeys<Value> extends never ? Value : {
      [Key in keyof Value]: NonNullable<Value[Key]> extends Special
        ? Given<Value[Key]>
        : Value[Key];
    }
  : Value;

type GivenList<Value extends readonly unknown[]> =
  [Extract<Value[number], Special>] extends [never] ? Value
    : { [Index in keyof Value]: Given<Value[Index]> };

/** An object whose reference may be given for one of the peer. */
type Local<Value> = {
  [Key in Exclude<keyof Value, symbol>]: Value[Key] extends
    (...args: infer Args) => infer Result ? (...args: Args) =>
      | Result
      | Awaited<Result>
      | (Result extends AsyncGenerator<infer Item> ? AsyncIterable<Item>
        : never)
    : never;
};

type GivenFunction<Value extends AnyFunction> = Value extends
  (...args: infer Args) => infer Result
  // A function of any result may be given for one without a result.
  ? void extends Result
    ? Value extends Disposable ? (...args: Args) => Result : Value
  : (...args: Args) => Result | Awaited<Result> | Promise<Awaited<Result>>
  : never;

/**
 * An argument as its method receives it: its functions return promises, and can be
 * released.
 */
type Received<Value> = IsAny<Value> extends true ? Value
  : Value extends AnyFunction ? ReceivedFunction<Value>
  : Value extends Opaque | Disposable | readonly unknown[] ? Value
  : Value extends object ? SpecialKeys<Value> extends never ? Value
      // An object type cannot have the private members of a class.
    : { [Key in keyof Value]: Value[Key] } extends Value ? {
        [Key in keyof Value]: NonNullable<Value[Key]> extends AnyFunction
          ? Received<Value[Key]>
          : Value[Key];
      }
    : Value
  : Value;

type ReceivedFunction<Value extends AnyFunction> = Value extends
  (...args: infer Args) => infer Result
  ? ((...args: Args) => Promise<Awaited<Result>>) & Disposable
  : never;

/** The properties of an object that arrive as something of another type. */
type SpecialKeys<Value> = {
  [Key in Exclude<keyof Value, symbol>]-?: IsAny<Value[Key]> extends true
    ? never
    : [NonNullable<Value[Key]>] extends [never] ? never
    : NonNullable<Value[Key]> extends Special ? Key
    : never;
}[Exclude<keyof Value, symbol>];

/** The arguments of a call as the caller may give them. */
export type GivenArgs<Args extends unknown[]> = {
  [Index in keyof Args]: Given<Args[Index]>;
};

/**
 * The arguments of a call as the method receives them.
 *
 * @internal
 */
export type ReceivedArgs<Args extends unknown[]> = {
  [Index in keyof Args]: Received<Args[Index]>;
};

/**
 * An iterator whose values are sent one by one.
 *
 * @internal
 */
export interface ValueIterator<Item, Last> {
  next(): IteratorResult<Item, Last>;
  [Symbol.iterator](): unknown;
}

/**
 * The result of a method as it arrives, once it is awaited.
 *
 * @internal
 */
export type RemoteValue<Value> = IsAny<Value> extends true ? Value
  : Value extends Reference<infer Methods> ? RemoteReference<Methods>
  : Value extends AnyFunction ? RemoteMethod<Value> & Disposable
  : Value extends AsyncGenerator<infer Item, infer Last>
    ? AsyncGenerator<Item, Last, void>
  : Value extends AsyncIterable<infer Item> ? AsyncGenerator<Item, void, void>
  : Value extends ValueIterator<infer Item, infer Last>
    ? AsyncGenerator<Item, Last, void>
  : Value extends Opaque ? Value
  : Value extends readonly unknown[]
    ? [Extract<Value[number], Special>] extends [never] ? Value
    : { [Index in keyof Value]: RemoteValue<Value[Index]> }
  : Value extends object ? SpecialKeys<Value> extends never ? Value : {
      [Key in keyof Value]: NonNullable<Value[Key]> extends Special
        ? RemoteValue<Value[Key]>
        : Value[Key];
    }
  : Value;

/**
 * The result of a remote call: a promise, or a generator if the method returns a
 * stream, for example from an async generator.
 *
 * @typeParam Result The type that the method returns.
 */
export type RemoteResult<Result> = IsAny<Awaited<Result>> extends true
  ? Promise<Awaited<Result>>
  : [Awaited<Result>] extends [never] ? Promise<never>
  : [Awaited<Result>] extends
    [AsyncIterable<unknown> | ValueIterator<unknown, unknown>]
    ? RemoteValue<Awaited<Result>>
  : Promise<RemoteValue<Awaited<Result>>>;

/** One signature of a method as a caller sees it. */
type RemoteCall<Args extends unknown[], Result> = (
  ...args: GivenArgs<Args>
) => RemoteResult<Result>;

/** One signature of a method without an answer. */
type NoticeCall<Args extends unknown[]> = (
  ...args: GivenArgs<Args>
) => Promise<void>;

/**
 * A method as a caller sees it, with at most four overloads. One with fewer repeats
 * its first, and an intersection has equal types once.
 *
 * @internal
 */
export type RemoteMethod<Method> = Method extends {
  (...args: infer Args1): infer Result1;
  (...args: infer Args2): infer Result2;
  (...args: infer Args3): infer Result3;
  (...args: infer Args4): infer Result4;
} ?
    & RemoteCall<Args1, Result1>
    & RemoteCall<Args2, Result2>
    & RemoteCall<Args3, Result3>
    & RemoteCall<Args4, Result4>
  : never;

/**
 * As {@linkcode RemoteMethod}, for calls without an answer.
 *
 * @internal
 */
export type NoticeMethod<Method> = Method extends {
  (...args: infer Args1): unknown;
  (...args: infer Args2): unknown;
  (...args: infer Args3): unknown;
  (...args: infer Args4): unknown;
} ?
    & NoticeCall<Args1>
    & NoticeCall<Args2>
    & NoticeCall<Args3>
    & NoticeCall<Args4>
  : never;

/**
 * The result of a blocking call: the awaited result of the method, or `never` if the
 * method returns a stream, which a blocked thread cannot read.
 *
 * @typeParam Result The type that the method returns.
 */
export type RemoteSyncResult<Result> = [RemoteResult<Result>] extends
  [Promise<infer Value>] ? Value : never;

/** One signature of a method that is called by blocking the thread. */
type SyncCall<Args extends unknown[], Result> = (
  ...args: GivenArgs<Args>
) => RemoteSyncResult<Result>;

/**
 * As {@linkcode RemoteMethod}, for calls that block the thread.
 *
 * @internal
 */
export type SyncMethod<Method> = Method extends {
  (...args: infer Args1): infer Result1;
  (...args: infer Args2): infer Result2;
  (...args: infer Args3): infer Result3;
  (...args: infer Args4): infer Result4;
} ?
    & SyncCall<Args1, Result1>
    & SyncCall<Args2, Result2>
    & SyncCall<Args3, Result3>
    & SyncCall<Args4, Result4>
  : never;

/**
 * The names of an object's methods, optional ones among them.
 *
 * @internal
 */
export type MethodName<Methods, Name> = Name extends "then" | symbol ? never
  : Name extends keyof Methods
    ? [NonNullable<Methods[Name]>] extends [never] ? never
    : NonNullable<Methods[Name]> extends AnyFunction ? Name
    : never
  : never;

/**
 * The methods of an object that the peer exposes. A function among the arguments of a
 * call may be asynchronous, as its result is awaited. A function or a
 * {@linkcode Reference} in a result arrives as one that calls the peer, and can be
 * released; the types show this for the result itself, its properties, and its items.
 *
 * A generic method is called with the constraints of its type parameters, and of a
 * method with overloads the last four are there. Getters and inherited methods, which
 * are not exposed, cannot be told from own functions by their types.
 *
 * @typeParam Methods The type of the object.
 */
export type Remote<Methods> = {
  readonly [
    Name in keyof Methods as MethodName<Methods, Name>
  ]-?: RemoteMethod<NonNullable<Methods[Name]>>;
};

/**
 * The methods of an object that the peer exposes, called without an answer.
 *
 * @typeParam Methods The type of the object.
 */
export type Notifier<Methods> = {
  readonly [
    Name in keyof Methods as MethodName<Methods, Name>
  ]-?: NoticeMethod<NonNullable<Methods[Name]>>;
};

/**
 * Methods that receive their arguments as calls pass them: a function among the
 * arguments returns a promise.
 *
 * @typeParam Methods The type of the object.
 */
export type Exposable<Methods> = {
  [Name in keyof Methods]: Methods[Name] extends
    (...args: infer Args) => unknown
    ? IsAny<Methods[Name]> extends true ? Methods[Name]
    : (...args: ReceivedArgs<Args>) => unknown
    : Methods[Name];
};

/**
 * The methods of an object that the peer exposes, called by blocking the thread.
 *
 * @typeParam Methods The type of the object.
 */
export type RemoteSync<Methods> = {
  readonly [
    Name in keyof Methods as MethodName<Methods, Name>
  ]-?: SyncMethod<NonNullable<Methods[Name]>>;
};
