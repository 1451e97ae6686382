"""The experiments of the Candle paper on its fifteen data sets."""
