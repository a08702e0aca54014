// Copyright 2026 the Duplex authors. MIT license.

/**
 * The types of `@std/streams` for `tools/with_jsr.ts`.
 *
 * @module
 */

export interface BufferBytesOptions {
  copy?: boolean;
}

export class Buffer {
  constructor(ab?: ArrayBufferLike | ArrayLike<number>);
  get readable(): ReadableStream<Uint8Array>;
  get writable(): WritableStream<Uint8Array>;
  get length(): number;
  get capacity(): number;
  bytes(options?: BufferBytesOptions): Uint8Array;
  empty(): boolean;
  truncate(n: number): void;
  reset(): void;
  grow(n: number): void;
}

export class ByteSliceStream extends TransformStream<Uint8Array, Uint8Array> {
  constructor(start?: number, end?: number);
}

export type DelimiterDisposition = "suffix" | "prefix" | "discard";

export interface DelimiterStreamOptions {
  disposition?: DelimiterDisposition;
}

export class DelimiterStream extends TransformStream<Uint8Array, Uint8Array> {
  constructor(delimiter: Uint8Array, options?: DelimiterStreamOptions);
}

export class TextDelimiterStream extends TransformStream<string, string> {
  constructor(delimiter: string, options?: DelimiterStreamOptions);
}

export interface TextLineStreamOptions {
  allowCR?: boolean;
}

export class TextLineStream extends TransformStream<string, string> {
  constructor(options?: TextLineStreamOptions);
}

export interface LimitedBytesTransformStreamOptions {
  error?: boolean;
}

export class LimitedBytesTransformStream
  extends TransformStream<Uint8Array, Uint8Array> {
  constructor(size: number, options?: LimitedBytesTransformStreamOptions);
}

export interface LimitedTransformStreamOptions {
  error?: boolean;
}

export class LimitedTransformStream<T> extends TransformStream<T, T> {
  constructor(size: number, options?: LimitedTransformStreamOptions);
}

export function concatReadableStreams<T>(
  ...streams: ReadableStream<T>[]
): ReadableStream<T>;

export function earlyZipReadableStreams<T>(
  ...streams: ReadableStream<T>[]
): ReadableStream<T>;

export function mergeReadableStreams<T>(
  ...streams: ReadableStream<T>[]
): ReadableStream<T>;

export function zipReadableStreams<T>(
  ...streams: ReadableStream<T>[]
): ReadableStream<T>;

export function toArrayBuffer(
  readableStream: ReadableStream<Uint8Array>,
): Promise<ArrayBuffer>;

export function toBlob(stream: ReadableStream<Uint8Array>): Promise<Blob>;

export function toBytes(
  stream: ReadableStream<Uint8Array>,
): Promise<Uint8Array>;

export function toJson(
  stream: ReadableStream<string> | ReadableStream<Uint8Array>,
): Promise<unknown>;

export function toText(
  stream: ReadableStream<string> | ReadableStream<Uint8Array>,
): Promise<string>;

export function toTransformStream<I, O>(
  transformer: (src: ReadableStream<I>) => Iterable<O> | AsyncIterable<O>,
  writableStrategy?: QueuingStrategy<I>,
  readableStrategy?: QueuingStrategy<O>,
): TransformStream<I, O>;
